import type { NaruEvent } from '@naru/client';
import { describe, expect, it } from 'vitest';
import { EVENT_NAME_HEADER, replay } from '../webhooks.ts';
import type { WebhookPayload } from '../webhooks.ts';
import { Auditor } from './auditor.ts';
import { Notifier, render } from './notifier.ts';
import type { Message } from './notifier.ts';
import { SearchIndexer } from './search-indexer.ts';

/** As much of an event as the services look at. */
function event(name: string, value: WebhookPayload): NaruEvent<WebhookPayload> {
  const headers = { get: (key: string) => (key === EVENT_NAME_HEADER ? name : undefined) };
  return { headers, value } as unknown as NaruEvent<WebhookPayload>;
}

const sender = { login: 'octocat' };
const repository = { full_name: 'octo-org/octo-repo' };

describe('the notifier', () => {
  it('renders a message for an issue', () => {
    const message = render('issues', {
      action: 'opened',
      sender,
      repository,
      issue: { number: 7, title: 'It breaks' },
    });
    expect(message).toEqual({
      channel: '#octo-org-octo-repo',
      text: 'octocat opened issue octo-org/octo-repo#7: It breaks',
    });
  });

  it('calls a pull request that was closed by merging merged', () => {
    const pullRequest = { number: 8, title: 'Fix it', merged: true };
    const message = render('pull_request', { action: 'closed', sender, repository, pull_request: pullRequest });
    expect(message?.text).toBe('octocat merged pull request octo-org/octo-repo#8: Fix it');
  });

  it('is silent about everything else', () => {
    expect(render('star', { action: 'created', sender, repository })).toBeNull();
    expect(render('issues', { action: 'labeled', sender, repository, issue: { number: 7 } })).toBeNull();
  });

  it('fails when the message cannot be sent, so that the event comes again', async () => {
    const notifier = new Notifier(() => Promise.reject(new Error('the chat is down')));
    const issue = { number: 7, title: 'It breaks' };
    await expect(notifier.handle(event('issues', { action: 'opened', issue }))).rejects.toThrow('the chat is down');
  });
});

it('the auditor ranks actors by their deeds', () => {
  const auditor = new Auditor();
  for (const action of ['opened', 'opened', 'closed']) auditor.handle(event('issues', { action, sender }));
  auditor.handle(event('push', { sender: { login: 'hubot' } }));
  expect(auditor.ranking()).toEqual([
    { actor: 'octocat', deeds: 3 },
    { actor: 'hubot', deeds: 1 },
  ]);
});

describe('the search indexer', () => {
  const issue = { html_url: 'https://example.com/1', title: 'Spelling error', body: 'in the README' };

  it('finds documents by every term', () => {
    const indexer = new SearchIndexer();
    indexer.handle(event('issues', { issue }));
    indexer.handle(event('issues', { issue: { html_url: 'https://example.com/2', title: 'Another error' } }));
    expect(indexer.search('error')).toHaveLength(2);
    expect(indexer.search('readme ERROR')).toEqual(['https://example.com/1']);
    expect(indexer.search('error nowhere')).toEqual([]);
  });

  it('forgets the terms that a document has lost', () => {
    const indexer = new SearchIndexer();
    indexer.handle(event('issues', { issue }));
    indexer.handle(event('issues', { issue: { ...issue, title: 'Grammar' } }));
    expect(indexer.search('spelling')).toEqual([]);
    expect(indexer.search('grammar readme')).toEqual(['https://example.com/1']);
  });
});

describe('the stream', () => {
  it('numbers the events of each key from 1 on', () => {
    const last = new Map<string, number>();
    for (const { key, sequence } of replay(1_000)) {
      expect(sequence).toBe((last.get(key) ?? 0) + 1);
      last.set(key, sequence);
    }
    expect([...last.values()].reduce((sum, count) => sum + count, 0)).toBe(1_000);
    expect(last.get('Codertocat/Hello-World')).toBeGreaterThan(100);
  });

  it('makes the notifier say something', async () => {
    const messages: Message[] = [];
    const notifier = new Notifier((message) => void messages.push(message));
    for (const { name, payload } of replay(400)) await notifier.handle(event(name, payload));
    expect(messages.length).toBeGreaterThan(10);
  });
});
