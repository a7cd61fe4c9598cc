/** Keeps an inverted index of everything that people write. Indexing the same event again changes nothing. */
import type { NaruEvent } from '@naru/client';
import type { Post, WebhookPayload } from '../webhooks.ts';
import type { Service } from './service.ts';

const TERM_PATTERN = /[\p{L}\p{N}][\p{L}\p{N}_-]+/gu;
/** Longer ones are hashes and the like. */
const MAX_TERM_LENGTH = 30;

export class SearchIndexer implements Service {
  readonly group = 'search-indexer';
  /** By term: addresses of the documents that hold it. */
  readonly #documents = new Map<string, Set<string>>();
  /** By address: the terms of the document as it was last. */
  readonly #terms = new Map<string, Set<string>>();

  handle(event: NaruEvent<WebhookPayload>): void {
    const { issue, pull_request: pullRequest, discussion, comment, release } = event.value;
    for (const post of [issue, pullRequest, discussion, comment, release]) {
      if (post?.html_url !== undefined) this.#index(post.html_url, termsOf(post));
    }
  }

  /** Addresses of the documents that hold every term of `query`. */
  search(query: string): string[] {
    const [first, ...rest] = [...termsOf({ title: query })].map(
      (term) => this.#documents.get(term) ?? new Set<string>(),
    );
    if (first === undefined) return [];
    return [...first].filter((address) => rest.every((addresses) => addresses.has(address)));
  }

  summary(): string {
    const found = this.search('spelling error').length;
    return `${this.#terms.size} documents, ${this.#documents.size} terms; "spelling error" is in ${found}`;
  }

  #index(address: string, terms: Set<string>): void {
    const before = this.#terms.get(address) ?? new Set<string>();
    this.#terms.set(address, terms);
    for (const term of before.difference(terms)) this.#documents.get(term)?.delete(address);
    for (const term of terms.difference(before)) {
      const addresses = this.#documents.get(term) ?? new Set<string>();
      this.#documents.set(term, addresses.add(address));
    }
  }
}

function termsOf({ title, body }: Post): Set<string> {
  const words = `${title ?? ''} ${body ?? ''}`.toLowerCase().match(TERM_PATTERN) ?? [];
  return new Set(words.filter((word) => word.length <= MAX_TERM_LENGTH));
}
