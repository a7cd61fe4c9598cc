/**
 * Reads connections into memory that all of them share.
 *
 * Node takes 64 KiB of new memory for every read of a socket, and whoever puts frames together copies what arrived out of it at once.
 * Touching all those pages for the first time was 30 % of the time of a broker that took events in (profile).
 */
import { Socket } from 'node:net';

/** Larger than Node's, and small enough for a processor's cache. */
const READ_BYTES = 256 * 1024;

const HANDLE = '_handle';

/** The parts of a socket's handle that are needed, which Node does not document; net.Server makes its sockets of them, too. */
interface SocketHandle {
  reading: boolean;
  readStop(): unknown;
  useUserBuffer(buffer: Uint8Array): unknown;
}

export class SharedReads {
  /** One is enough: it is read into and looked at within one call. */
  readonly #memory = Buffer.allocUnsafeSlow(READ_BYTES);

  /**
   * A socket of the same connection, whose `data` is valid during the event only: who needs it longer copies it. To be called for a
   * socket that nobody writes to, with no listeners that are still needed. It is of no use afterwards, unless it is what is returned:
   * where the platform has no such sockets.
   */
  adopt(socket: Socket): Socket {
    const handle: unknown = Reflect.get(socket, HANDLE);
    if (!isSocketHandle(handle)) return socket;
    const seen = socket.read() as Buffer | null;
    handle.readStop();
    handle.reading = false;
    Reflect.set(socket, HANDLE, null);
    socket.removeAllListeners();
    socket.destroy();
    const memory = this.#memory;
    const onread = {
      buffer: memory,
      callback: (bytes: number): boolean => {
        adopted.emit('data', memory.subarray(0, bytes));
        return true;
      },
    };
    const adopted = new Socket({ handle: handle as never, onread });
    if (seen !== null) adopted.unshift(seen);
    return adopted;
  }
}

function isSocketHandle(handle: unknown): handle is SocketHandle {
  if (typeof handle !== 'object' || handle === null) return false;
  const { reading, readStop, useUserBuffer } = handle as Partial<SocketHandle>;
  return typeof reading === 'boolean' && typeof readStop === 'function' && typeof useUserBuffer === 'function';
}
