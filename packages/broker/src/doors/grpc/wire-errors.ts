/** Naru's errors as gRPC's: a status code, and the whole error as a detail. The client has the way back. */
import { create } from '@bufbuild/protobuf';
import { ConnectError, type Code } from '@connectrpc/connect';
import { ERRORS, NaruError, type Refusal } from '@naru/protocol';
import { ErrorSchema, type Error as ErrorMessage } from '@naru/protocol/proto';

export function toErrorMessage(refusal: Refusal): ErrorMessage {
  return create(ErrorSchema, { ...refusal, retriable: ERRORS[refusal.code].retriable });
}

/** Unknown errors become INTERNAL, without their insides. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const refusal: Refusal =
    error instanceof NaruError ? error.toRefusal() : { code: 'INTERNAL', message: 'the broker failed; see its log' };
  const code = ERRORS[refusal.code].grpc as Code;
  return new ConnectError(refusal.message, code, undefined, [{ desc: ErrorSchema, value: toErrorMessage(refusal) }], error);
}
