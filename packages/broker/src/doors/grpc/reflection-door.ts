/**
 * gRPC's server reflection, in both versions that clients ask for (grpc.reflection.v1 and v1alpha, which differ in their
 * name alone): what services there are, and the .proto files that describe them, from the generated descriptors.
 */
import { create, createRegistry, toBinary, type DescFile, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, type ConnectRouter } from '@connectrpc/connect';
import { reflectionV1, reflectionV1Alpha } from '@naru/protocol/proto';

/** What of a request matters; the same in both versions. */
interface Question {
  readonly messageRequest:
    | { readonly case: 'fileByFilename' | 'fileContainingSymbol' | 'allExtensionNumbersOfType'; readonly value: string }
    | { readonly case: 'listServices'; readonly value: string }
    | {
        readonly case: 'fileContainingExtension';
        readonly value: { readonly containingType: string; readonly extensionNumber: number };
      }
    | { readonly case: undefined };
}

/** The same in both versions too. */
type Reply =
  | { readonly case: 'fileDescriptorResponse'; readonly value: { fileDescriptorProto: Uint8Array[] } }
  | {
      readonly case: 'allExtensionNumbersResponse';
      readonly value: { baseTypeName: string; extensionNumber: number[] };
    }
  | { readonly case: 'listServicesResponse'; readonly value: { service: { name: string }[] } }
  | { readonly case: 'errorResponse'; readonly value: { errorCode: number; errorMessage: string } };

/** @param services those that are told of; reflection itself is added */
export function addReflection(router: ConnectRouter, services: readonly DescService[]): void {
  const both = [reflectionV1.ServerReflection, reflectionV1Alpha.ServerReflection];
  const catalogue = new Catalogue([...services, ...both]);
  router.service(reflectionV1.ServerReflection, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const messageResponse = catalogue.answer(request);
        const fields = { validHost: request.host, originalRequest: request, messageResponse };
        yield create(reflectionV1.ServerReflectionResponseSchema, fields);
      }
    },
  });
  router.service(reflectionV1Alpha.ServerReflection, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const messageResponse = catalogue.answer(request);
        const fields = { validHost: request.host, originalRequest: request, messageResponse };
        yield create(reflectionV1Alpha.ServerReflectionResponseSchema, fields);
      }
    },
  });
}

class Catalogue {
  readonly #services: readonly DescService[];
  readonly #files = new Map<string, DescFile>();
  readonly #bySymbol = new Map<string, DescFile>();

  constructor(services: readonly DescService[]) {
    this.#services = services;
    for (const service of services) this.#addFile(service.file);
    for (const type of createRegistry(...this.#files.values())) {
      if (type.kind === 'extension') continue;
      this.#bySymbol.set(type.typeName, type.file);
      const members = type.kind === 'service' ? type.methods : type.kind === 'enum' ? type.values : type.members;
      for (const { name } of members) this.#bySymbol.set(`${type.typeName}.${name}`, type.file);
    }
  }

  answer({ messageRequest: question }: Question): Reply {
    switch (question.case) {
      case 'listServices':
        return {
          case: 'listServicesResponse',
          value: { service: this.#services.map(({ typeName: name }) => ({ name })) },
        };
      case 'fileByFilename':
        return fileReply(this.#files.get(question.value), `file ${JSON.stringify(question.value)}`);
      case 'fileContainingSymbol':
        return fileReply(this.#bySymbol.get(question.value), `symbol ${JSON.stringify(question.value)}`);
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = question.value;
        return fileReply(undefined, `extension ${extensionNumber} of ${JSON.stringify(containingType)}`);
      }
      case 'allExtensionNumbersOfType': {
        if (!this.#bySymbol.has(question.value)) return fileReply(undefined, `type ${JSON.stringify(question.value)}`);
        return { case: 'allExtensionNumbersResponse', value: { baseTypeName: question.value, extensionNumber: [] } };
      }
      case undefined:
        return refused(Code.InvalidArgument, 'the request asks for nothing that is known here');
    }
  }

  #addFile(file: DescFile): void {
    this.#files.set(file.proto.name, file);
    for (const imported of file.dependencies) this.#addFile(imported);
  }
}

/** The file, and what it imports, so that one answer is enough: each before what it imports, as simple clients expect. */
function fileReply(file: DescFile | undefined, what: string): Reply {
  if (file === undefined) return refused(Code.NotFound, `there is no ${what}`);
  const found = new Set<DescFile>();
  const add = (next: DescFile): void => {
    if (found.has(next)) return;
    for (const imported of next.dependencies) add(imported);
    found.add(next);
  };
  add(file);
  const bytes = [...found].reverse().map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: 'fileDescriptorResponse', value: { fileDescriptorProto: bytes } };
}

function refused(errorCode: Code, errorMessage: string): Reply {
  return { case: 'errorResponse', value: { errorCode, errorMessage } };
}
