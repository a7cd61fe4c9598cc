/**
 * One API of Kafka's protocol: its key, its versions, and the descriptions of its request and response.
 *
 * Owns the plans of its versions, made when they are first needed.
 */
import { assert } from '@naru/base';
import type { Fields } from './field.ts';
import { planStruct } from './plan.ts';
import type { StructPlan } from './plan.ts';

/** First and last version, inclusive. */
export type VersionRange = readonly [min: number, max: number];

export interface KafkaApiInit<Q extends Fields, S extends Fields> {
  /** Kafka's number. */
  readonly key: number;
  /** Kafka's name, like `ListOffsets`. */
  readonly name: string;
  /** Versions that are encoded and decoded here. */
  readonly served: VersionRange;
  /** Versions that ApiVersions should list. Default: those that are served. */
  readonly advertised?: VersionRange | undefined;
  /** First version with compact lengths and tagged fields. Default: none. */
  readonly flexibleFrom?: number | undefined;
  /** Version of the response's header; default: 1 for flexible versions, 0 for others. */
  readonly responseHeader?: 0 | undefined;
  readonly request: Q;
  readonly response: S;
}

export class KafkaApi<Q extends Fields = Fields, S extends Fields = Fields> {
  readonly key: number;
  readonly name: string;
  readonly served: VersionRange;
  readonly advertised: VersionRange;
  readonly flexibleFrom: number;
  readonly request: Q;
  readonly response: S;
  readonly #responseHeader: 0 | undefined;
  readonly #requestPlans: (StructPlan | undefined)[] = [];
  readonly #responsePlans: (StructPlan | undefined)[] = [];

  constructor(init: KafkaApiInit<Q, S>) {
    this.key = init.key;
    this.name = init.name;
    this.served = init.served;
    this.advertised = init.advertised ?? init.served;
    this.flexibleFrom = init.flexibleFrom ?? Infinity;
    this.request = init.request;
    this.response = init.response;
    this.#responseHeader = init.responseHeader;
  }

  serves(version: number): boolean {
    return version >= this.served[0] && version <= this.served[1];
  }

  isFlexible(version: number): boolean {
    return version >= this.flexibleFrom;
  }

  responseHeaderVersion(version: number): 0 | 1 {
    return this.#responseHeader ?? (this.isFlexible(version) ? 1 : 0);
  }

  /** @param version one that is served */
  requestPlan(version: number): StructPlan {
    return (this.#requestPlans[version] ??= this.#plan(this.request, version));
  }

  /** @param version one that is served */
  responsePlan(version: number): StructPlan {
    return (this.#responsePlans[version] ??= this.#plan(this.response, version));
  }

  #plan(fields: Fields, version: number): StructPlan {
    assert(Number.isInteger(version) && this.serves(version), `version ${version} of ${this.name} is served`);
    return planStruct(fields, version, this.isFlexible(version));
  }
}
