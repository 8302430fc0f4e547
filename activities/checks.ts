/**
 * Questions that every operation asks before it begins, whatever its engine: of the host that its tools run on, and of
 * where a backup goes. The worker asks them as a step, the API when somebody wants to know. What they write to find out
 * is removed at once. docs/prechecks.md lists them all.
 */
import type { BackupPlan, Command, ServerFacts, Step } from '../engines/engine.ts'
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { CheckResult } from '../model/types.ts'
import type { Destination } from '../storage/destination.ts'
import { placeOfDestination } from '../storage/index.ts'
import { type AskRoom, expectRoom, placedTrouble, sized } from './room.ts'

/** Runs a check that throws when it fails. */
export async function attempt(id: string, title: string, check: () => Promise<string>): Promise<CheckResult> {
  try {
    return { id, title, answer: 'pass', detail: await check() }
  } catch (error) {
    return failedBy({ id, title }, error)
  }
}

/** The answer that an error is. What is no error of ours is thrown on. */
export function failedBy(check: Pick<CheckResult, 'id' | 'title'>, error: unknown): CheckResult {
  if (!(error instanceof HoldfastError)) throw error
  const { code, hint, message: detail } = error
  return { ...check, answer: 'fail', detail, hint, code }
}

/** Every program of the plan, and the compressor. */
export async function toolChecks(
  host: Host,
  steps: readonly Step[],
  encoder?: string,
): Promise<CheckResult[]> {
  const programs = new Set<string>(encoder === undefined ? [] : [encoder])
  const note = (command: Command) => {
    for (const stage of command.stages) programs.add(stage.argv[0])
  }
  for (const step of steps) note(step.run)
  const checks: CheckResult[] = []
  for (const program of programs) {
    const found = await host.tool(program)
    checks.push(
      found
        ? { id: `tool-${program}`, title: `${program} is installed`, answer: 'pass', detail: found.version }
        : {
            id: `tool-${program}`,
            title: `${program} is installed`,
            answer: 'fail',
            code: 'host.tool-missing',
            detail: `"${program}" was not found on host "${host.name}".`,
          },
    )
  }
  return checks
}

/** What the plan puts into staging, by the estimate of the database's size. */
export const stagedBytes = (plan: Pick<BackupPlan, 'artifacts'>, { sizeBytes }: ServerFacts): number =>
  plan.artifacts.some(artifact => !('step' in artifact.from)) ? sizeBytes : 0

/** `ask` knows what others were promised there. */
export async function stagingCheck(
  host: Host,
  need: { bytes: number; writtenBytes?: number },
  ask: AskRoom,
  id = 'staging',
): Promise<CheckResult> {
  return await attempt(id, 'Staging can be written and has room', async () => {
    await expectWritable(host)
    return await expectRoom(host, need, ask)
  })
}

/** Of staging that was written to just now. */
export async function roomCheck(
  host: Host,
  need: { bytes: number; writtenBytes?: number },
  ask: AskRoom,
): Promise<CheckResult> {
  return await attempt('staging', 'Staging has room', async () => await expectRoom(host, need, ask))
}

/** Where nothing is promised yet: it would begin later, and not fail. */
export const onlyWaits = (check: CheckResult): CheckResult =>
  check.code === 'staging.promised' ? { ...check, answer: 'warn' } : check

export async function writableCheck(host: Host, id: string): Promise<CheckResult> {
  return await attempt(id, 'Staging can be written', async () => {
    await expectWritable(host)
    return `${sized(await host.files.freeBytes(host.stagingRoot))} free in ${host.stagingRoot}`
  })
}

async function expectWritable(host: Host): Promise<void> {
  const probe = `${host.stagingRoot}/.precheck-${crypto.randomUUID()}`
  try {
    await host.files.ensureDirectory(host.stagingRoot)
    await host.files.write(probe, 'holdfast')
    await host.files.remove(probe)
  } catch (error) {
    throw await placedTrouble(host, error)
  }
}

/**
 * Of a destination that is a directory: is there room for the database, and would what takes the database's machine, or its
 * disk, take its backups, too? Nothing is said where all is well. `tools`: the host of the connection,
 * if it can be asked from here; `here`: this machine.
 */
export async function directoryChecks(
  { tools, here }: { tools: Host | undefined; here: Host },
  destination: Destination,
  { directory, sizeBytes }: ServerFacts,
): Promise<CheckResult[]> {
  const place = placeOfDestination(destination)
  const host = [tools, here].find(one => one !== undefined && one.name === place?.host)
  if (place === undefined || host === undefined) return []
  const checks: CheckResult[] = []
  const warn = (id: string, title: string, detail: string, hint: string) =>
    checks.push({ id, title, answer: 'warn', detail, hint })
  const elsewhere = (what: string) =>
    `Keep another copy elsewhere: what takes that ${what} takes these backups, too.`
  // What only warns keeps nobody from a backup when it cannot be asked.
  const free = await host.files.freeBytes(place.directory).catch(() => undefined)
  if (free !== undefined && free < sizeBytes) {
    warn(
      'destination-room',
      'The destination has room for the database',
      `${destination.uri} has ${sized(free)} free; the database has about ${sized(sizeBytes)} before it is compressed.`,
      'Make room there, unless its backups are known to be much smaller than it.',
    )
  }
  if (host === tools && host.name !== 'local') {
    warn(
      'destination-apart',
      'The destination is on another machine than the database',
      `${destination.uri} is on host ${host.name}, where the tools of this connection run.`,
      elsewhere('machine'),
    )
  } else if (host === tools && directory !== undefined) {
    const device = await deviceOf(host, place.directory)
    if (device !== undefined && device === (await deviceOf(host, directory))) {
      warn(
        'destination-disk',
        'The destination is on another disk than the database',
        `${destination.uri} is on the file system of ${directory}.`,
        elsewhere('disk'),
      )
    }
  }
  return checks
}

/** undefined: it is not there, or may not be seen. */
async function deviceOf(host: Host, path: string): Promise<string | undefined> {
  const found = await host.files.stat(path).catch(() => undefined)
  return found?.inode.split(':')[0]
}
