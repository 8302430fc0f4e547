/**
 * Puts a fetched file beside where recovery wants it. The client gives it its name, as long as PostgreSQL waits for it: a fetch that
 * was given up and ends late must not exchange the file of the one that came after.
 */
import { randomBytes } from 'node:crypto'
import { open, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const draftPattern = /^\.holdfast-wal-[0-9a-f]{16}$/
const abandonedMs = 3_600_000

/** Returns its path. */
export async function writeDraft(target: string, content: Buffer): Promise<string> {
  const folder = dirname(target)
  await removeAbandoned(folder)
  const draft = join(folder, `.holdfast-wal-${randomBytes(8).toString('hex')}`)
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  } finally {
    await file.close()
  }
  return draft
}

/** Of fetches whose client was killed: a segment each. */
async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!draftPattern.test(name)) continue
    const path = join(folder, name)
    const age = await stat(path).then(
      found => Date.now() - found.mtimeMs,
      () => 0,
    )
    if (age > abandonedMs) await rm(path, { force: true })
  }
}
