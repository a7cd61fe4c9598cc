import { describe, expect, it } from 'vitest';
import { AnswerMemory } from './answer-memory.ts';

const MIB = 1024 * 1024;

describe('memory for answers', () => {
  it('gives smaller shares the more fetches are under way and the more is waiting to be taken', () => {
    const memory = new AnswerMemory(64 * MIB);
    expect([1, 2, 3, 4, 5, 6, 7, 8].map(() => memory.begin() / MIB)).toEqual(
      [16, 16, 16, 16, 12.8, 64 / 6, 64 / 7, 8].map((share) => Math.floor(share * MIB) / MIB),
    );
    for (let i = 0; i < 8; i++) memory.end();
    memory.hold(60 * MIB);
    expect(memory.begin()).toBe(4 * MIB);
    expect(memory.room()).toBeNull();
  });

  it('lets no fetch begin while it is used up, and those that began before read little', async () => {
    const memory = new AnswerMemory(64 * MIB);
    memory.hold(70 * MIB);
    expect(memory.begin()).toBe(MIB / 4);
    const room = memory.room();
    expect(room).not.toBeNull();
    memory.release(10 * MIB);
    await room;
    expect(memory.room()).toBeNull();
    expect(memory.unsentBytes).toBe(60 * MIB);
  });
});
