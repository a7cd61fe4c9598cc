/** The serdes that come with the SDK. */
export { bytes, json, string } from './serde.ts';
