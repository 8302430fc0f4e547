/** Accepting that a backup is copied: asked for by somebody, or to where it is missing. */
import { findBackup, readBackup } from '../catalog/backups.ts'
import { beginCopying, wantedCopies, wantNoMore } from '../catalog/copies.ts'
import { listDestinations } from '../catalog/destinations.ts'
import { findOperation, insertOperation, isClosed } from '../catalog/operations.ts'
import { HoldfastError } from '../model/errors.ts'
import { copyWorkflowId } from '../model/ids.ts'
import type { BackupRecord, CopyInput, OperationRecord, Patience } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'
import { newOperation, newOperationId, patienceOf, startWorkflow } from './submit.ts'

/** Destinations to read a committed backup from, the best first; only the one that was asked for. Throws `backup.not-found`. */
export function copiesToRead(backup: BackupRecord, from: string | undefined): [string, ...string[]] {
  const all = backup.copies.filter(copy => copy.state === 'committed').map(copy => copy.destination)
  const [first, ...others] = from === undefined ? all : all.filter(name => name === from)
  if (first !== undefined) return [first, ...others]
  throw new HoldfastError(
    'backup.not-found',
    from === undefined
      ? `There is no copy of backup ${backup.id} to read.`
      : `There is no copy of backup ${backup.id} at ${from}; there is one at: ${all.join(', ')}.`,
  )
}

/** Throws what such a request is refused with. */
export async function askedCopy(
  context: ApiContext,
  backup: BackupRecord,
  request: { to: string; from?: string | undefined; unattended?: boolean | undefined },
): Promise<OperationRecord> {
  if (backup.foreign) {
    throw new HoldfastError(
      'request.invalid',
      `Backup ${backup.id} is foreign: it has no manifest that could be copied along.`,
      { hint: 'Copy the file with the tools of its place, then `holdfast catalog sync` where it lies.' },
    )
  }
  const names = (await listDestinations(context.catalog)).map(({ name }) => name)
  if (!names.includes(request.to)) {
    throw new InvalidRequest([{ path: 'to', message: `there is no destination named ${request.to}` }])
  }
  const there = backup.copies.find(({ destination }) => destination === request.to)
  if (there?.state === 'committed') {
    throw new HoldfastError('request.exists', `Backup ${backup.id} is at ${request.to} already.`)
  }
  const copies = copiesToRead(backup, request.from)
  await expectParentsAt(context, backup, request.to)
  return newCopy(backup, request.to, copies, patienceOf(context, request))
}

/** Where the others are lost, a backup without what it was made against is worth nothing. */
async function expectParentsAt({ catalog }: ApiContext, backup: BackupRecord, to: string): Promise<void> {
  const missing: string[] = []
  for (let { parent } = backup.manifest; parent !== null; ) {
    const found = await findBackup(catalog, parent)
    if (!found?.copies.some(({ destination, state }) => destination === to && state === 'committed')) {
      missing.unshift(parent)
    }
    parent = found?.manifest.parent ?? null
  }
  if (missing.length === 0) return
  throw new HoldfastError(
    'backup.parent',
    `Backup ${backup.id} is put together with ${missing.join(', ')}, and there is no copy at ${to} of ${missing.length === 1 ? 'that one' : 'those'}.`,
    {
      hint: `Copy the oldest first: ${missing.map(id => `holdfast backups copy ${id} --to ${to}`).join('; ')}`,
    },
  )
}

function newCopy(
  backup: BackupRecord,
  destination: string,
  copies: string[],
  patience: Patience,
): OperationRecord {
  const input: CopyInput = {
    version: 1,
    operationId: newOperationId(),
    backupId: backup.id,
    destination,
    copies,
    sourceConnection: backup.connection,
    ...patience,
  }
  return {
    ...newOperation(),
    id: input.operationId,
    kind: 'copy',
    connection: backup.connection,
    engine: backup.engine,
    backupId: backup.id,
    destination,
    targetDatabase: null,
    workflowId: copyWorkflowId(backup.id, destination),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

/**
 * Copies what is missing where it was asked to be, one operation for each. It waits out what is away, with longer and longer
 * pauses, as whatever nobody watches; what ends early begins anew, until its time is over. What somebody cancelled stays so.
 */
export async function copyWhatIsMissing(context: ApiContext): Promise<void> {
  const { catalog, settings, log } = context
  const now = new Date()
  for (const { backupId, destination, operationId } of await wantedCopies(catalog, now.toISOString())) {
    const former = operationId === null ? undefined : await findOperation(catalog, operationId)
    if (former && !isClosed(former.state)) continue
    if (former?.state === 'cancelled') {
      await wantNoMore(catalog, backupId, destination, 'Its copying was cancelled.')
      continue
    }
    const pauseMs = settings.parkRetrySeconds * 1000
    if (former?.endedAt && now.getTime() - Date.parse(former.endedAt) < pauseMs) continue
    const backup = await readBackup(catalog, backupId)
    if (backup.state !== 'committed') continue
    const patience = { ...patienceOf(context, { unattended: true }), persistent: true }
    const operation = newCopy(backup, destination, copiesToRead(backup, undefined), patience)
    // Somebody copies it there already.
    if (await context.temporal.holder(operation.workflowId)) continue
    try {
      await insertOperation(catalog, operation, null, tx =>
        beginCopying(tx, { backupId, destination, operationId }, operation.id),
      )
      await startWorkflow(context, operation)
      log.info('a missing copy is being made', { operation: operation.id, backup: backupId, destination })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      log.warn('a missing copy could not be begun', { backup: backupId, destination, reason: error.message })
    }
  }
}
