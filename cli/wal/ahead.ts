/**
 * Archives what PostgreSQL will ask for next, before it does. PostgreSQL asks for one file after the other and marks what waits
 * as `archive_status/NAME.ready`; the files stay in pg_wal until it was told that they are archived, so nothing is kept here but
 * what has become of them. Whoever dies here loses no more than that: the file is pushed again and found to be there already.
 */
import { readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { logFileOf } from '../../model/wal.ts'
import { type Archive, identityOf } from './archive.ts'
import type { Shelved } from './shelf.ts'

interface Pushing {
  identity: string
  done: Promise<void>
  /** PostgreSQL waits for it, or was told. */
  asked: boolean
}

/** Of what was pushed and is not asked for: more are forgotten. */
const remembered = 64

export function pushAhead(
  archive: Pick<Archive, 'push'>,
  lookAhead: number,
  shelved: Shelved | undefined,
): (path: string) => Promise<void> {
  const known = new Map<string, Pushing>()
  let underWay = 0

  const begin = (path: string, identity: string, asked: boolean): Pushing => {
    underWay += 1
    const pushing: Pushing = { identity, done: archive.push(path), asked }
    known.set(path, pushing)
    // Without a shelf whoever asks waits for the agent.
    const expected = asked ? undefined : shelved?.shelf.expect(dirname(path), basename(path)).catch(() => {})
    pushing.done
      .then(async () => {
        await expected
        await note(path, pushing)
      })
      // Whoever asks for it has it pushed anew: what was in the way may be gone by then.
      .catch(async () => {
        if (known.get(path) === pushing) known.delete(path)
        await expected
        await shelved?.shelf.remove(dirname(path), basename(path))
      })
      .catch(() => {})
      .finally(() => {
        underWay -= 1
        if (known.size > remembered) known.delete(known.keys().next().value ?? '')
      })
    return pushing
  }
  /** For the launcher, which tells PostgreSQL when it asks. */
  const note = async (path: string, pushing: Pushing) => {
    const [folder, name] = [dirname(path), basename(path)]
    if (!pushing.asked) await shelved?.shelf.note(folder, name, pushing.identity)
    if (pushing.asked) await shelved?.shelf.remove(folder, name)
  }

  const ahead = async (path: string): Promise<void> => {
    const folder = dirname(path)
    const names = await readdir(join(folder, 'archive_status'))
    const waiting = names
      .filter(name => name.endsWith('.ready'))
      .map(name => name.slice(0, -'.ready'.length))
      .filter(name => logFileOf(name) !== undefined && name > basename(path))
      .sort()
    for (const name of waiting.slice(0, lookAhead)) {
      if (underWay > lookAhead) return
      const next = join(folder, name)
      const identity = await identityOf(next)
      if (!known.has(next)) begin(next, identity, false)
    }
  }
  shelved?.onTaken((folder, name) => {
    const path = join(folder, name)
    if (!known.delete(path)) return
    ahead(path).catch(() => {})
  })

  return async path => {
    const identity = await identityOf(path)
    const there = known.get(path)
    const pushing = there?.identity === identity ? there : begin(path, identity, true)
    pushing.asked = true
    // Looking ahead is a favour: what goes wrong there is found out in its turn.
    if (lookAhead > 0) ahead(path).catch(() => {})
    await pushing.done
    if (known.get(path) === pushing) known.delete(path)
    shelved?.shelf.remove(dirname(path), basename(path)).catch(() => {})
  }
}
