/** Naru's errors as gRPC's: a status code, and the whole error as a detail. The client has the way back. */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Logger } from '@naru/base';
import { ERRORS, NaruError, type Refusal } from '@naru/protocol';
import { ErrorSchema, type Error as ErrorMessage } from '@naru/protocol/proto';

export function toErrorMessage(refusal: Refusal): ErrorMessage {
  return create(ErrorSchema, { ...refusal, retriable: ERRORS[refusal.code].retriable });
}

/** What a client is told of an error. Unknown ones become INTERNAL, without their insides. */
export function toRefusal(error: unknown): Refusal {
  return error instanceof NaruError
    ? error.toRefusal()
    : { code: 'INTERNAL', message: 'the broker failed; see its log' };
}

export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const refusal = toRefusal(error);
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- the table holds gRPC's numbers, which are Code's
  const code = ERRORS[refusal.code].grpc as Code;
  return new ConnectError(
    refusal.message,
    code,
    undefined,
    [{ desc: ErrorSchema, value: toErrorMessage(refusal) }],
    error,
  );
}

/** Logs what a client is told only that it happened. Returns the error, to be thrown. */
export function logged(error: ConnectError, logger: Logger): ConnectError {
  if (error.code === Code.Internal) logger.error({ error: error.cause ?? error }, 'a call failed');
  return error;
}
