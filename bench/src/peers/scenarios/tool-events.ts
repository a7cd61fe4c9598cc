/** How much Kafka's tools are given to do. */
import type { SubjectRun } from '../subject-run.ts';

/** A JVM that has just started is slow: its first warm-up is longer by this factor. */
const FIRST_EVENTS = 5;
/** Of the time that a tool measures: until its client is connected and compiled. */
const OWN_SECONDS = 0.7;

export function toolEventsOf(run: SubjectRun, recordBytes: number): number {
  return run.eventsOf(recordBytes, run.settings.warmUpEvents * FIRST_EVENTS, OWN_SECONDS);
}
