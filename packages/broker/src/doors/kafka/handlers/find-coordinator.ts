/**
 * FindCoordinator 0–6: this broker, whatever is asked for.
 *
 * Differs from Kafka: nothing has to be created first, so that it is never COORDINATOR_NOT_AVAILABLE. Share groups (key
 * type 2, of version 6) are INVALID_REQUEST, as there.
 */
import { kafkaErrorCode } from '@naru/protocol/kafka';
import { KAFKA_NODE_ID, type KafkaCall, type KafkaHandlers } from '../kafka-handler.ts';

const GROUP_KEY = 0;
const TRANSACTION_KEY = 1;
const NO_NODE = { nodeId: -1, host: '', port: -1 };

export function findCoordinatorHandlers(): Pick<KafkaHandlers, 'findCoordinator'> {
  return {
    findCoordinator: {
      handle: ({ key, keyType, coordinatorKeys }, call) => {
        const known = keyType === GROUP_KEY || keyType === TRANSACTION_KEY;
        const errorMessage = known ? null : `there are no coordinators for keys of type ${keyType}`;
        const errorCode = known ? 0 : kafkaErrorCode('INVALID_REQUEST', 'group');
        return answer(key, coordinatorKeys, call, { errorCode, errorMessage });
      },
      failed: ({ key, coordinatorKeys }, { code, message }, call) =>
        answer(key, coordinatorKeys, call, { errorCode: kafkaErrorCode(code, 'group'), errorMessage: message }),
    },
  };
}

function answer(
  key: string,
  keys: readonly string[],
  { version, advertised: { host, port } }: KafkaCall,
  error: { readonly errorCode: number; readonly errorMessage: string | null },
) {
  const node = error.errorCode === 0 ? { nodeId: KAFKA_NODE_ID, host, port } : NO_NODE;
  // Which of the two stands in the message is the version's choice; the codec leaves the other out.
  const coordinators = (version < 4 ? [key] : keys).map((each) => ({ key: each, ...node, ...error }));
  return { throttleTimeMs: 0, ...error, ...node, coordinators };
}
