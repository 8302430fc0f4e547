/** What is left in the world after an operation: objects, uploads, staging, processes. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Destination } from '../../storage/destination.ts'

export async function objectsOf(destination: Destination, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const object of destination.list(prefix)) keys.push(object.key)
  return keys
}

export async function uploadsOf(destination: Destination, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const upload of destination.listUploads(prefix)) keys.push(upload.key)
  return keys
}

/** Command lines of living processes that mention `text`. */
export function processesWith(text: string): string[] {
  const found: string[] = []
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      if (line.includes(text)) found.push(`${pid} ${line}`)
    } catch {
      // It ended while we looked.
    }
  }
  return found
}

/** Exactly one valid-looking backup: manifest, one attempt with its artifact and keys, nothing else, nothing open. */
export async function expectOneBackup(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<void> {
  const prefix = `${connection}/backups/${backupId}/`
  const keys = (await objectsOf(destination, prefix)).map(key => key.slice(prefix.length)).sort()
  const manifest = JSON.parse(
    Buffer.from((await destination.read(`${prefix}manifest.json`)) ?? []).toString(),
  ) as {
    attemptId: string
    artifacts: { object: string; encryption: unknown }[]
  }
  const expected = ['manifest.json', ...manifest.artifacts.map(artifact => artifact.object)]
  if (manifest.artifacts.some(artifact => artifact.encryption))
    expected.push(`${manifest.attemptId}/keys-1.json`)
  assert.deepEqual(keys, expected.sort(), `objects of ${backupId}`)
  assert.deepEqual(await uploadsOf(destination, prefix), [], `open uploads of ${backupId}`)
}

/** No backup: nothing but the tombstone. */
export async function expectNoBackup(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<void> {
  const prefix = `${connection}/backups/${backupId}/`
  const keys = (await objectsOf(destination, prefix)).map(key => key.slice(prefix.length))
  assert.deepEqual(
    keys.filter(key => key !== 'deleted.json'),
    [],
    `objects of ${backupId}`,
  )
  assert.deepEqual(await uploadsOf(destination, prefix), [], `open uploads of ${backupId}`)
}

/** Neither staging nor job directory nor process of the operation. */
export function expectCleanHost(home: string, operationId: string): void {
  for (const room of ['data', 'jobs']) {
    const path = join(home, 'staging', room, operationId)
    assert.equal(existsSync(path), false, `${room}/${operationId} is left`)
  }
  assert.deepEqual(processesWith(operationId), [], `processes of ${operationId}`)
}
