/** What the results of a scenario say: Naru against each other subject, with what is comparable. */
import type { Figure, PeerTarget, Subject } from './peer-scenario.ts';
import { ratioOf, summary } from '../statistics.ts';
import type { RatioSummary } from '../statistics.ts';
import type { ScenarioResult, SubjectResult } from './peer-runner.ts';

export interface Comparison extends RatioSummary {
  readonly figure: string;
  readonly subject: string;
  readonly peer: string;
  /** `equal`: both sync, or neither does. `ours synced`: Naru with fsync against the peer without. */
  readonly durability: 'equal' | 'ours synced';
}

export interface Verdict {
  readonly target: PeerTarget;
  readonly ratio: number;
  readonly isReached: boolean;
}

/** Of one subject, in the order of the rounds. */
export function values({ runs }: SubjectResult, figure: Figure): number[] {
  return runs.map((run) => figure.of(run)).filter((value): value is number => value !== undefined);
}

/** Naru with each other server, in every pair of classes in which Naru is not given an advantage. */
export function comparisons({ scenario, subjects }: ScenarioResult): Comparison[] {
  return scenario.figures.flatMap((figure) =>
    subjects.flatMap((ours) =>
      subjects
        .filter((theirs) => isComparable(ours.subject, theirs.subject))
        .flatMap((theirs): Comparison[] => {
          const [a, b] = [values(ours, figure), values(theirs, figure)];
          if (a.length === 0 || b.length === 0) return [];
          const durability = ours.subject.durability === theirs.subject.durability ? 'equal' : 'ours synced';
          return [
            { figure: figure.name, subject: ours.name, peer: theirs.name, durability, ...ratioOf(a, b, figure.better) },
          ];
        }),
    ),
  );
}

function isComparable(ours: Subject, theirs: Subject): boolean {
  if (ours.server !== 'naru' || theirs.server === 'naru' || ours.variant !== theirs.variant) {
    // A bare limit has no like.
    return ours.server === 'naru' && theirs.server === 'bare' && ours.durability === theirs.durability;
  }
  return !(ours.durability === 'no-fsync' && theirs.durability === 'fsync');
}

/** Of the targets whose both sides were measured. */
export function verdicts({ scenario, subjects }: ScenarioResult): Verdict[] {
  return scenario.targets.flatMap((target): Verdict[] => {
    const find = (name: string): SubjectResult | undefined => subjects.find((subject) => subject.name === name);
    const [ours, theirs] = [find(target.subject), find(target.peer)];
    const figure = scenario.figures.find(({ name }) => name === target.figure);
    if (ours === undefined || theirs === undefined || figure === undefined) return [];
    const [a, b] = [values(ours, figure), values(theirs, figure)];
    const { ratio } = ratioOf(a, b, figure.better);
    const isAllowed =
      target.allowance !== undefined && summary(a).median <= summary(b).median / target.atLeast + target.allowance;
    return [{ target, ratio, isReached: ratio >= target.atLeast || isAllowed }];
  });
}
