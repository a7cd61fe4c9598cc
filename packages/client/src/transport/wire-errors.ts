/** Errors of the wire to the SDK's errors. The only place that knows both. */
import { Code, ConnectError } from '@connectrpc/connect';
import type { ErrorCode } from '@naru/protocol';
import { NaruError, isErrorCode } from '@naru/protocol';
import { ErrorSchema } from '@naru/protocol/proto';
import type { Error as WireError } from '@naru/protocol/proto';

/** Statuses that a broker, or something in between, answered without naming a code of the error table. */
const CODES_OF_STATUS: Readonly<Partial<Record<Code, ErrorCode>>> = {
  [Code.Canceled]: 'ABORTED',
  [Code.InvalidArgument]: 'INVALID_REQUEST',
  [Code.DeadlineExceeded]: 'REQUEST_TIMED_OUT',
  [Code.ResourceExhausted]: 'OVERLOADED',
  [Code.Unimplemented]: 'UNSUPPORTED',
  [Code.Unavailable]: 'NETWORK',
};

export function fromWireError(error: WireError): NaruError {
  if (isErrorCode(error.code)) return new NaruError(error.code, error.message);
  // A newer broker's code: what matters is whether to try again.
  return new NaruError(error.retriable ? 'NOT_READY' : 'INTERNAL', `${error.code}: ${error.message}`);
}

/**
 * Whatever a call or stream failed with. Failures of the connection are NETWORK.
 *
 * @param broker the address that was called, for the message
 */
export function toNaruError(reason: unknown, broker: string): NaruError {
  if (reason instanceof NaruError) return reason;
  if (!(reason instanceof ConnectError)) {
    return new NaruError('NETWORK', `connection to ${broker} failed: ${describe(reason)}`, { cause: reason });
  }
  const detail = reason.findDetails(ErrorSchema)[0];
  if (detail !== undefined) return fromWireError(detail);
  const code = reason.isWireError ? (CODES_OF_STATUS[reason.code] ?? 'INTERNAL') : 'NETWORK';
  const message =
    code === 'NETWORK'
      ? `connection to ${broker} failed: ${describe(reason.cause ?? reason)}`
      : `${broker} answered: ${reason.rawMessage}`;
  return new NaruError(code, message, { cause: reason });
}

function describe(reason: unknown): string {
  if (!(reason instanceof Error)) return String(reason);
  const code = (reason as { code?: unknown }).code;
  const message = reason instanceof ConnectError ? reason.rawMessage : reason.message;
  return message !== '' ? message : typeof code === 'string' ? code : reason.name;
}
