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
import { openJournal } from '../storage/journal.ts'
import { committedAttempt, type Made, openAttempt } from './attempt.ts'
import type { WorkerContext } from './context.ts'
import { chooseEncoder, type Encoder } from './encoder.ts'
import type { PausableTurn } from './pausing.ts'
import { atEach } from './places.ts'
import { methodOf, type StoredBackupPlan, stepContext, storedPlan } from './plan.ts'
import { expectSuccess, pipeOf, saidBy, startStream } from './steps.ts'
import {
  completeObjects,
  entryFor,
  expectWhole,
  type Place,
  type SentParts,
  sendParts,
  type WrittenFacts,
} from './transfer.ts'

/** What is kept beside the staged data once every part of an artifact is where it can be. */
type Sent = WrittenFacts & { parts: SentParts }

export async function uploadArtifacts(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  to: readonly string[],
): Promise<Made> {
  const done = await committedAttempt(context, turn, input)
  if (done) return done
  const plan = await storedPlan(context, input.operationId, 'backup')
  const encoder = await chooseEncoder(context, input.compression)
  const resumable = await findResumable(context, turn, input, plan, encoder)
  const begun = async () => await openAttempt(context, turn, input, to, plan.artifacts, encoder)
  try {
    return await uploadAs(context, turn, input, plan, resumable ?? (await begun()), encoder)
  } catch (error) {
    const over =
      error instanceof HoldfastError &&
      (error.code === 'staging.changed' || error.code === 'destination.upload-gone')
    if (!resumable || !over) throw error
    // The old attempt cannot go on. Its key is never used again; its upload is removed with all others at cleanup.
    return await uploadAs(context, turn, input, plan, await begun(), encoder)
  }
}

const attemptDirectory = (context: WorkerContext, input: BackupInput, attemptId: string) =>
  `${context.host.stagingDir(input.operationId)}/.holdfast-upload/${attemptId}`

/** Of one artifact; the parts of each destination have a journal of their own. */
const recordPath = (context: WorkerContext, input: BackupInput, attemptId: string, name: string) =>
  `${attemptDirectory(context, input, attemptId)}/${name}`

/** An attempt, and the destinations that it is for. */
type Begun = Awaited<ReturnType<typeof openAttempt>>

/**
 * The newest recorded attempt of which something lies in a store already, made by the same encoder from what is staged
 * here: without the record of its parts beside that data nobody can tell which bytes its key has sealed.
 */
async function findResumable(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
  encoder: Encoder,
): Promise<Begun | undefined> {
  const attempts = await context.catalog.attempts(input.operationId)
  attempts.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  for (const attempt of attempts) {
    if (attempt.artifacts.length !== plan.artifacts.length) continue
    if (!(await context.host.files.stat(attemptDirectory(context, input, attempt.attemptId)))) continue
    if (attempt.artifacts.some(one => one.encoder !== encoder.name)) continue
    if (attempt.artifacts.some(one => !isDeepStrictEqual(one.compression, encoder.compression))) continue
    const opened = attempt.destinations.filter(name =>
      attempt.artifacts.every(one => one.uploads[name] !== undefined),
    )
    const { done, lost } = await atEach(turn, opened, name => isAlive(context, attempt, name))
    const destinations = [...done].flatMap(([name, alive]) => (alive ? [name] : []))
    if (destinations.length > 0) return { attempt, destinations, lost }
  }
  return undefined
}

async function isAlive(context: WorkerContext, attempt: AttemptRecord, name: string): Promise<boolean> {
  const destination = await context.destination(name)
  for (const { key, uploads } of attempt.artifacts) {
    const open = await destination.listParts(key, uploads[name] ?? '')
    if (!open && !(await destination.stat(key))) return false
  }
  return true
}

async function uploadAs(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
  { attempt, destinations, lost }: Begun,
  encoder: Encoder,
): Promise<Made> {
  await context.host.files.ensureDirectory(attemptDirectory(context, input, attempt.attemptId))
  const made: Made = {
    attemptId: attempt.attemptId,
    artifacts: [],
    endedAt: new Date().toISOString(),
    sentBytes: 0,
    destinations,
    lost: [...lost],
  }
  for (const [index, spec] of plan.artifacts.entries()) {
    const artifact = attempt.artifacts[index]
    if (!artifact) throw new HoldfastError('internal', `Attempt ${attempt.attemptId} lacks "${spec.name}".`)
    const { sent, sentBytes } = await sendOrGoOn(context, turn, input, plan, made, spec, artifact, encoder)
    const completed = await completeObjects(context, artifact, sent, turn)
    made.destinations = completed.destinations
    made.lost.push(...completed.lost)
    made.artifacts.push(entryFor(attempt, spec, artifact, sent))
    made.sentBytes += sentBytes
  }
  return { ...made, ...(await collected(context, turn, input, plan)) }
}

/** The jobs of the tool lie beside what they staged. */
async function collected(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
): Promise<Pick<Made, 'facts'>> {
  const engine = engineOf(input.engine)
  const { collect } = methodOf(engine, input.method)
  if (!collect) return {}
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const said: Record<string, string> = {}
  for (const step of plan.steps) said[step.id] = await saidBy(steps, step)
  return { facts: collect(said) }
}

async function sendOrGoOn(
  context: WorkerContext,
  turn: PausableTurn,
  input: BackupInput,
  plan: StoredBackupPlan,
  made: Made,
  spec: ArtifactSpec,
  artifact: AttemptArtifact,
  encoder: Encoder,
): Promise<{ sent: Sent; sentBytes: number }> {
  const files = context.host.files
  const path = recordPath(context, input, made.attemptId, spec.name)
  const known = await files.readSmall(`${path}.sent`)
  if (known !== undefined) return { sent: JSON.parse(known) as Sent, sentBytes: 0 }
  const { done: listed, lost } = await atEach(turn, made.destinations, async name => {
    const destination = await context.destination(name)
    const parts = await destination.listParts(artifact.key, artifact.uploads[name] ?? '')
    if (parts) return parts
    throw new HoldfastError(
      'destination.upload-gone',
      `The upload of ${artifact.key} is gone; a new attempt is made.`,
    )
  })
  made.lost.push(...lost)
  const places: Place[] = []
  for (const [name, existingParts] of listed) {
    places.push({ name, existingParts, journal: await openJournal(files, `${path}.${name}.parts`) })
  }
  const steps = stepContext(context, turn, input.operationId, engineOf(input.engine), plan.token)
  const step = {
    id: `encode-${made.attemptId}`,
    title: `read ${spec.name} from staging`,
    run: readCommand(spec),
  }
  const command = pipeOf(step, encoder.stage)
  const running = await startStream(steps, step, encoder.stage)
  try {
    const written = await sendParts(context, places, {
      source: running.stdout,
      encoder,
      artifact,
      turn,
      sizeBytes: plan.facts.sizeBytes,
      pausing: turn.pausing,
    })
    expectSuccess(steps, { title: step.title, writesTo: 'staging' }, command, await running.result)
    expectWhole(spec, written)
    const { head: _head, tail: _tail, sentBytes, lost: dropped, ...sent } = written
    made.lost.push(...dropped)
    await files.write(`${path}.sent`, JSON.stringify(sent))
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
