/**
 * Staged backups, second half: the staged data goes up by parts. Beside the staged data lies, for each attempt, a
 * journal of every part's ciphertext hash (written before the part is sent) and, once all parts are there, what the
 * manifest needs. A worker that finds them goes on where the other one stopped; staged data that changed, another
 * encoder or an upload that is gone begin a new attempt with a new key.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ArtifactSpec } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { AttemptArtifact, AttemptRecord, BackupInput } from '../model/records.ts'
import type { Destination, PartInfo } from '../storage/destination.ts'
import { openJournal } from '../storage/journal.ts'
import { committedAttempt, type Made, openAttempt } from './attempt.ts'
import type { WorkerContext } from './context.ts'
import { chooseEncoder, type Encoder } from './encoder.ts'
import type { PausableTurn } from './pausing.ts'
import { type StoredBackupPlan, stepContext, storedPlan } from './plan.ts'
import { expectSuccess, pipeOf, startStream } from './steps.ts'
import {
  completeObject,
  entryFor,
  expectStored,
  expectWhole,
  sendParts,
  type WrittenFacts,
} from './transfer.ts'

/** What is kept beside the staged data once every part of an artifact is in the store. */
type Sent = WrittenFacts & { parts: PartInfo[] }

export async function uploadArtifacts(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
): Promise<Made> {
  const done = await committedAttempt(context, input)
  if (done) return done
  const plan = await storedPlan(context, input.operationId, 'backup')
  const encoder = await chooseEncoder(context, input.compression)
  const destination = await context.destination(input.destination)
  const resumable = await findResumable(context, destination, input, plan, encoder)
  const attempt = resumable ?? (await openAttempt(context, turn, input, plan.artifacts, encoder))
  try {
    return await uploadAs(context, turn, input, plan, attempt, encoder)
  } catch (error) {
    const over =
      error instanceof HoldfastError &&
      (error.code === 'staging.changed' || error.code === 'destination.upload-gone')
    if (!resumable || !over) throw error
    // The old attempt cannot go on. Its key is never used again; its upload is removed with all others at cleanup.
    return await uploadAs(
      context,
      turn,
      input,
      plan,
      await openAttempt(context, turn, input, plan.artifacts, encoder),
      encoder,
    )
  }
}

const attemptDirectory = (context: WorkerContext, input: BackupInput, attemptId: string) =>
  `${context.host.stagingDir(input.operationId)}/.holdfast-upload/${attemptId}`

const journalPath = (
  context: WorkerContext,
  input: BackupInput,
  attemptId: string,
  artifact: string,
  kind: 'parts' | 'sent',
) => `${attemptDirectory(context, input, attemptId)}/${artifact}.${kind}`

/**
 * The newest recorded attempt of which something lies in the store already, made by the same encoder from what is staged
 * here: without the record of its parts beside that data nobody can tell which bytes its key has sealed.
 */
async function findResumable(
  context: WorkerContext,
  destination: Destination,
  input: BackupInput,
  plan: StoredBackupPlan,
  encoder: Encoder,
): Promise<AttemptRecord | undefined> {
  const attempts = await context.catalog.attempts(input.operationId)
  attempts.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  for (const attempt of attempts) {
    if (attempt.artifacts.length !== plan.artifacts.length) continue
    if (!(await context.host.files.stat(attemptDirectory(context, input, attempt.attemptId)))) continue
    if (attempt.artifacts.some(one => one.uploadId === null || one.encoder !== encoder.name)) continue
    if (attempt.artifacts.some(one => !isDeepStrictEqual(one.compression, input.compression))) continue
    let alive = true
    for (const artifact of attempt.artifacts) {
      const open = await destination.listParts(artifact.key, artifact.uploadId ?? '')
      if (!open && !(await destination.stat(artifact.key))) alive = false
    }
    if (alive) return attempt
  }
  return undefined
}

async function uploadAs(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
  attempt: AttemptRecord,
  encoder: Encoder,
): Promise<Made> {
  await context.host.files.ensureDirectory(attemptDirectory(context, input, attempt.attemptId))
  const made: Made = {
    attemptId: attempt.attemptId,
    artifacts: [],
    endedAt: new Date().toISOString(),
    sentBytes: 0,
  }
  for (const [index, spec] of plan.artifacts.entries()) {
    const artifact = attempt.artifacts[index]
    if (!artifact) throw new HoldfastError('internal', `Attempt ${attempt.attemptId} lacks "${spec.name}".`)
    const { sent, sentBytes } = await uploadOne(context, turn, input, plan, attempt, spec, artifact, encoder)
    made.artifacts.push(entryFor(attempt, spec, artifact, sent))
    made.sentBytes += sentBytes
  }
  return made
}

async function uploadOne(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
  attempt: AttemptRecord,
  spec: ArtifactSpec,
  artifact: AttemptArtifact,
  encoder: Encoder,
): Promise<{ sent: Sent; sentBytes: number }> {
  const destination = await context.destination(input.destination)
  const files = context.host.files
  const sentPath = journalPath(context, input, attempt.attemptId, spec.name, 'sent')
  const known = await files.readSmall(sentPath)
  const existingParts = await destination.listParts(artifact.key, artifact.uploadId ?? '')
  if (known !== undefined) {
    const sent = JSON.parse(known) as Sent
    if (existingParts) await completeObject(destination, artifact, sent, turn)
    else await expectStored(destination, artifact.key, sent.storedBytes)
    return { sent, sentBytes: 0 }
  }
  if (!existingParts) {
    throw new HoldfastError(
      'destination.upload-gone',
      `The upload of ${artifact.key} is gone; a new attempt is made.`,
    )
  }
  const steps = stepContext(context, turn, input.operationId, engineOf(input.engine), plan.token)
  const step = {
    id: `encode-${attempt.attemptId}`,
    title: `read ${spec.name} from staging`,
    run: readCommand(spec),
  }
  const command = pipeOf(step, encoder.stage)
  const running = await startStream(steps, step, encoder.stage)
  try {
    const journal = await openJournal(
      context.host.files,
      journalPath(context, input, attempt.attemptId, spec.name, 'parts'),
    )
    const written = await sendParts(context, destination, {
      source: running.stdout,
      encoder,
      artifact,
      turn,
      sizeBytes: plan.facts.sizeBytes,
      journal,
      existingParts,
      pausing: turn.pausing,
    })
    expectSuccess(steps, { title: step.title, writesTo: 'staging' }, command, await running.result)
    expectWhole(spec, written)
    const { head: _head, tail: _tail, sentBytes, ...sent } = written
    await files.write(sentPath, JSON.stringify(sent))
    await completeObject(destination, artifact, sent, turn)
    return { sent, sentBytes }
  } catch (error) {
    await running.stop()
    throw error
  }
}

/**
 * Reads the staged data as one stream of bytes. A directory becomes one tar whose bytes depend on names and contents
 * alone, so that another run gives the same parts.
 */
function readCommand(spec: ArtifactSpec) {
  const from = spec.from
  if ('file' in from) return { stages: [{ argv: ['cat', '--', from.file] }] } as const
  if ('directory' in from) {
    return {
      stages: [
        {
          argv: [
            'tar',
            '--format=posix',
            '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime',
            '--sort=name',
            '--mtime=@0',
            '--owner=0',
            '--group=0',
            '--numeric-owner',
            '--mode=u=rwX,go=',
            '-cf',
            '-',
            '-C',
            from.directory,
            '.',
          ],
        },
      ],
    } as const
  }
  throw new HoldfastError('internal', `Artifact "${spec.name}" is not staged.`)
}
