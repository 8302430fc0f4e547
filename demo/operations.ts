/** The three things the demo asks Holdfast to do, each waited for and told in one line. */
import type { Client } from '../cli/client.ts'
import { bytes } from '../cli/terminal.ts'
import { isClosed } from '../cli/watch.ts'
import { HoldfastError, isErrorCode } from '../model/errors.ts'
import { accepted, type BackupView, backupView, type OperationView, operationView } from '../model/views.ts'
import type { Timeline } from './timeline.ts'

async function finished(client: Client, path: string, body: unknown): Promise<OperationView> {
  const { operation } = await client.post(accepted, path, body)
  let last = operation
  while (!isClosed(last) && last.state !== 'parked') {
    await new Promise(resolve => setTimeout(resolve, 100))
    last = await client.get(operationView, `/v1/operations/${operation.id}`)
  }
  if (last.state === 'succeeded') return last
  const { code, detail, hint } = last.error ?? {
    code: 'internal',
    detail: `It ended ${last.state}.`,
    hint: '',
  }
  throw new HoldfastError(isErrorCode(code) ? code : 'internal', `${last.kind} ${last.id}: ${detail}`, {
    hint,
  })
}

export async function backUp(client: Client, timeline: Timeline, connection: string): Promise<BackupView> {
  const since = performance.now()
  const operation = await finished(client, '/v1/backups', { connection })
  const made = await client.get(backupView, `/v1/backups/${operation.backup}`)
  const sealed = made.encrypted ? 'encrypted' : 'NOT encrypted'
  timeline.step(
    '✓',
    'backup',
    `${made.id}  ${bytes(made.toolBytes)} → ${bytes(made.storedBytes)}, ${sealed}`,
    since,
  )
  if (!made.encrypted) throw new HoldfastError('internal', `Backup ${made.id} is not encrypted.`)
  return made
}

export async function verify(client: Client, timeline: Timeline, backup: BackupView): Promise<void> {
  const since = performance.now()
  await finished(client, `/v1/backups/${backup.id}/verify`, { level: 'checksum' })
  timeline.step('✓', 'verify', `${bytes(backup.storedBytes)} read again and hashed`, since)
}

export async function restore(
  client: Client,
  timeline: Timeline,
  backup: BackupView,
  target: { connection: string; database: string },
): Promise<void> {
  const since = performance.now()
  await finished(client, '/v1/restores', { backup: backup.id, target })
  timeline.step('✓', 'restore', target.database, since)
}

export function compare(timeline: Timeline, before: string, after: string): boolean {
  const short = (digest: string) => digest.slice(0, 16)
  if (before === after)
    timeline.step('✓', 'equal', `schema and every value: ${short(before)}… = ${short(after)}…`)
  else timeline.step('✗', 'DIFFERS', `${before} before, ${after} after`)
  return before === after
}
