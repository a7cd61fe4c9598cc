/** The resources that AlterConfigs and IncrementalAlterConfigs answer for. */
import { array, int16, int8, string, struct } from '../schema/field.ts';

export const configResults = array(
  struct({ errorCode: int16, errorMessage: string.nullable(), resourceType: int8, resourceName: string }),
);
