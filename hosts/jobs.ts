/** Detached jobs: they outlive this process; their directory says how they are. */
import type { Command } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { stagingCode } from './files.ts'
import type { DetachedJob, JobId, SecretValues } from './host.ts'
import { describe, launch } from './launch.ts'
import { control, jobDirectory, operationDirectory, type Place } from './place.ts'
import { stderrTail } from './tails.ts'

export async function start(
  place: Place,
  job: JobId,
  command: Command,
  options: { stdoutFile?: string; secrets?: SecretValues; fence: number },
): Promise<void> {
  const { shell, begun, noise } = await launch(place, job, command, {
    mode: 'detached',
    feeds: false,
    ...options,
  })
  // All secrets are in the pipe: a worker that stops here does not hold the job up.
  shell.stdin.end()
  shell.stdout.resume()
  const report = await begun
  shell.unref()
  if (report === 'started' || report === 'already') return
  const doing = `Starting ${describe(command)} on ${place.name}`
  if (report?.startsWith('stale')) {
    throw new HoldfastError(
      'host.job-lost',
      `${doing}: attempt ${options.fence} was overtaken by attempt ${report.slice(6)}.`,
    )
  }
  const said = [report?.replace(/^failed /, '') ?? 'its wrapper ended before it started', ...noise].join('; ')
  throw new HoldfastError(stagingCode(said) ?? 'host.job-lost', `${doing}: ${said.slice(0, 1000)}.`)
}

export async function status(place: Place, job: JobId): Promise<DetachedJob> {
  const directory = jobDirectory(place, job)
  const [life, run, ...words] = (
    await control(place, /^(none|running|done|lost) /, 'status', directory)
  ).split(' ')
  if (life === 'running') return { state: 'running' }
  if (life === 'none') return { state: 'absent' }
  const exits = words.map(Number)
  // Anything that cannot be read is no proof of success.
  if (life !== 'done' || exits.length === 0 || exits.some(exit => !Number.isInteger(exit)))
    return { state: 'lost' }
  return {
    state: 'done',
    result: { exits, stdout: '', stderrTail: await stderrTail(place, `${directory}/${run}`, exits) },
  }
}

export async function stop(place: Place, job: JobId, fence: number): Promise<void> {
  await ended(place, 'stop', jobDirectory(place, job), String(Math.trunc(fence)))
}

export async function forget(place: Place, job: JobId): Promise<void> {
  await control(place, /^/, 'remove', jobDirectory(place, job))
}

export async function stopOperation(place: Place, operation: string): Promise<void> {
  await ended(place, 'stop-operation', operationDirectory(place, operation))
}

/** Ends one run of an attached job and removes what it left. */
export async function stopRun(place: Place, job: JobId, run: string): Promise<void> {
  await ended(place, 'stop-run', jobDirectory(place, job), run)
}

async function ended(place: Place, ...verb: string[]): Promise<void> {
  const answer = await control(place, /^(stopped|stale|stuck)$/m, ...verb)
  if (/\bstuck\b/.test(answer)) {
    throw new HoldfastError(
      'host.unreachable',
      `Stopping a job on ${place.name}: its processes cannot be killed; they hang in the kernel, most likely on a disk or a network file system.`,
    )
  }
}
