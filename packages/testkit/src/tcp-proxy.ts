/**
 * A TCP proxy that a test puts between a client and a server, to break what is between them.
 *
 * It cuts connections, holds bytes back in either direction, or refuses new connections.
 */
import type { AddressInfo, NetConnectOpts, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

export type Direction = 'requests' | 'answers';

export interface ProxyHooks {
  /** Called before bytes go on; false keeps them back until {@link TcpProxy.heal}. */
  readonly onBytes?: ((direction: Direction, bytes: Uint8Array, connection: number) => boolean) | undefined;
  /** Called when a connection is over; connections are numbered as they come. */
  readonly onClosed?: ((connection: number) => void) | undefined;
}

interface Pair {
  readonly number: number;
  readonly client: Socket;
  readonly server: Socket;
  readonly held: { readonly to: Socket; readonly bytes: Uint8Array }[];
}

export class TcpProxy {
  readonly #target: NetConnectOpts;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #hooks: ProxyHooks;
  #accepted = 0;
  #refusing = false;
  #stalled = false;

  constructor(target: NetConnectOpts, hooks: ProxyHooks = {}) {
    this.#target = target;
    this.#hooks = hooks;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  set hooks(hooks: ProxyHooks) {
    this.#hooks = hooks;
  }

  /** Breaks all connections, as a network does: the server hears of it too. */
  cut(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** Cuts all connections and every new one. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** Nothing goes through, nobody is told. */
  stall(): void {
    this.#stalled = true;
  }

  /** New connections work, what was held goes on. */
  heal(): void {
    this.#refusing = false;
    this.#stalled = false;
    for (const { held } of this.#pairs) for (const { to, bytes } of held.splice(0)) to.write(bytes);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const pair: Pair = { number: this.#accepted++, client, server: connect(this.#target), held: [] };
    this.#pairs.add(pair);
    this.#forward(pair, pair.client, pair.server, 'requests');
    this.#forward(pair, pair.server, pair.client, 'answers');
  }

  #forward(pair: Pair, from: Socket, to: Socket, direction: Direction): void {
    from.on('data', (bytes) => {
      const goesOn = !this.#stalled && pair.held.length === 0 && this.#goesOn(pair, direction, bytes);
      if (!this.#pairs.has(pair)) return;
      if (goesOn) to.write(bytes);
      else pair.held.push({ to, bytes });
    });
    from.on('error', () => this.#end(pair));
    from.on('close', () => {
      // Of a way that is stalled, nobody hears that its other end is gone.
      if (!this.#stalled) this.#end(pair);
    });
  }

  #goesOn({ number }: Pair, direction: Direction, bytes: Uint8Array): boolean {
    return this.#hooks.onBytes?.(direction, bytes, number) ?? true;
  }

  #end(pair: Pair): void {
    if (this.#pairs.delete(pair)) this.#hooks.onClosed?.(pair.number);
    pair.client.destroy();
    pair.server.destroy();
  }
}
