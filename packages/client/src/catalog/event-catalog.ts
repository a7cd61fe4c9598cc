/**
 * The catalog as the compiler sees it. `naru catalog types` writes a declaration that adds events to {@link EventCatalog}; from then
 * on names and values are checked. Without one, names are topics and values anything.
 */

/** Event name → type of its value. Filled by what `naru catalog types` writes. */
// oxlint-disable-next-line typescript/no-empty-object-type -- users add to it by declaration merging
export interface EventCatalog {}

/** Names of the catalog's events; any text without a catalog. */
export type EventName = keyof EventCatalog extends never ? string : CataloguedName;

/** What is published as the event `Name`. */
export type EventValue<Name extends string> = Name extends keyof EventCatalog ? EventCatalog[Name] : unknown;

/** A topic's name, where there is no catalog; else nothing fits. */
export type UncataloguedName = keyof EventCatalog extends never ? string : never;

/** Names of the catalog's events; nothing without a catalog. */
export type CataloguedName = Extract<keyof EventCatalog, string>;
