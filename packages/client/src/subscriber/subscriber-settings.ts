/** Settings of one subscriber: those of the connection, and what its options say in their place. */
import type { SubscriberSettings } from '../settings.ts';

/** Sections of the settings of which a part may be given. */
type PartlyGiven = 'retry' | 'deadLetter' | 'idempotency';

/** What can be given in place of the settings' `subscriber` section, and wins. */
export type SubscriberOverrides = {
  readonly [K in Exclude<keyof SubscriberSettings, PartlyGiven>]?: SubscriberSettings[K] | undefined;
} & { readonly [K in Exclude<PartlyGiven, 'idempotency'>]?: Partial<SubscriberSettings[K]> | undefined };

/** What the options say in place of settings. */
type GivenSettings = Omit<SubscriberOverrides, 'idempotency'> & {
  readonly idempotency?: Partial<SubscriberSettings['idempotency']> | undefined;
};

/** The settings with whatever the options name. */
export function subscriberSettings(settings: SubscriberSettings, options: GivenSettings): SubscriberSettings {
  const given = Object.entries(options).filter(([key, value]) => value !== undefined && key in settings);
  const { retry, deadLetter, idempotency } = options;
  return {
    ...settings,
    ...(Object.fromEntries(given) as Partial<SubscriberSettings>),
    retry: { ...settings.retry, ...defined(retry) },
    deadLetter: { ...settings.deadLetter, ...defined(deadLetter) },
    idempotency: { ...settings.idempotency, ...defined(idempotency) },
  };
}

/** Without what is undefined. */
export function defined<T extends object>(part: T | undefined): T {
  return Object.fromEntries(Object.entries(part ?? {}).filter(([, value]) => value !== undefined)) as T;
}
