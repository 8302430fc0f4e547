/**
 * Archives what PostgreSQL will ask for next, before it does. PostgreSQL asks for one file after the other and marks what waits
 * as `archive_status/NAME.ready`; the files stay in pg_wal until it was told that they are archived, so nothing is kept here but
 * what has become of them. Whoever dies here loses no more than that: the file is pushed again and found to be there already.
 */
import { readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { logFileOf } from '../../model/wal.ts'
import { type Archive, identityOf } from './archive.ts'

interface Pushing {
  identity: string
  done: Promise<void>
}

/** Of what was pushed and is not asked for: more are forgotten. */
const remembered = 64

export function pushAhead(
  archive: Pick<Archive, 'push'>,
  lookAhead: number,
): (path: string) => Promise<void> {
  const known = new Map<string, Pushing>()
  let underWay = 0

  const begin = (path: string, identity: string): Pushing => {
    underWay += 1
    const pushing: Pushing = { identity, done: archive.push(path) }
    known.set(path, pushing)
    pushing.done
      // Whoever asks for it has it pushed anew: what was in the way may be gone by then.
      .catch(() => {
        if (known.get(path) === pushing) known.delete(path)
      })
      .finally(() => {
        underWay -= 1
        if (known.size > remembered) known.delete(known.keys().next().value ?? '')
      })
    return pushing
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
      if (!known.has(next)) begin(next, identity)
    }
  }

  return async path => {
    const identity = await identityOf(path)
    const there = known.get(path)
    const pushing = there?.identity === identity ? there : begin(path, identity)
    // Looking ahead is a favour: what goes wrong there is found out in its turn.
    if (lookAhead > 0) ahead(path).catch(() => {})
    await pushing.done
    if (known.get(path) === pushing) known.delete(path)
  }
}
