/** `holdfast install`: decided first, as a list of steps; then shown, or done. May be cut off and done again at any point. */
import { copyFile, mkdir, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { HoldfastError } from '../../model/errors.ts'
import { settingsFrom } from '../../model/settings.ts'
import { credentials, layout, type Part, type Secret, secrets } from './layout.ts'
import type { Machine } from './machine.ts'
import { authorship, marked } from './mark.ts'
import { settingsText } from './settings-file.ts'
import { unitTexts, writableOf } from './units.ts'

export type Step =
  | {
      do: 'write'
      path: string
      mode: number
      text: string
      secret: boolean
      change: 'new' | 'changed' | 'same'
    }
  | { do: 'copy'; from: string; to: string }
  | { do: 'remove'; path: string; what: string }
  | { do: 'run'; argv: readonly string[] }

export interface InstallRequest {
  /** Holdfast's own directory. */
  program: string
  /** Absent: what is installed, else all. */
  part: Part | undefined
  /** Absent: as it is installed. Of a worker alone. */
  host: string | undefined
  /** HOLDFAST_… of whoever installs; values from files are read already. */
  env: Record<string, string | undefined>
  /** Temporal's program and the version of its server; asked only if it is to be embedded. */
  temporal(): Promise<{ program: string; serverVersion: string }>
  writable: readonly string[]
  start: boolean
}

/** Throws `request.exists` for a file that is not ours, or was changed by hand. */
export async function planInstall(machine: Machine, request: InstallRequest): Promise<Step[]> {
  const part = await partOf(machine, request.part)
  const settings = settingsText(await machine.read(layout.settings), request.env, part)
  const effective = settingsFrom(settings.values, '/', false)
  const steps: Step[] = []
  const write = async (path: string, text: string, mode: number, secret = false) => {
    const present = await machine.read(path)
    const change = present === undefined ? 'new' : present === text ? 'same' : 'changed'
    steps.push({ do: 'write', path, text, mode, secret, change })
  }
  const writeOwn = async (path: string, text: string, advice: string) => {
    await refuseOthers(machine, path)
    await write(path, marked(text, advice), 0o644)
  }

  await writeOwn(layout.user, userText, '')
  await write(layout.settings, settings.text, 0o644)
  const ofPart = (name: Secret) => part === 'worker' || name !== 'HOLDFAST_WORKER_TOKEN'
  const given = secrets.filter(name => request.env[name] && ofPart(name))
  for (const name of given) {
    await write(`${layout.credentials}/${credentials[name]}`, `${request.env[name]}\n`, 0o600, true)
  }
  const kept = await machine.list(layout.credentials)
  const present = secrets.filter((name: Secret) => given.includes(name) || kept.includes(credentials[name]))
  expectComplete(part, settings.values, present)

  let temporal: { program: string; serverVersion: string; namespace: string } | undefined
  if (effective.temporal.address === undefined) {
    const found = await request.temporal()
    const to = `${layout.programs}/temporal-${found.serverVersion}`
    if (!(await machine.list(layout.programs)).includes(`temporal-${found.serverVersion}`)) {
      steps.push({ do: 'copy', from: found.program, to })
    }
    temporal = { program: to, serverVersion: found.serverVersion, namespace: effective.temporal.namespace }
  }
  const writable = [...new Set([...(await writableBefore(machine)), ...request.writable])].sort()
  const host = request.host ?? (await hostBefore(machine))
  if (host !== undefined && part !== 'worker') {
    throw new HoldfastError(
      'settings.invalid',
      'A worker that lives on a host of its own is installed alone: --part worker.',
    )
  }
  const units = unitTexts({ program: request.program, part, host, temporal, secrets: present, writable })
  const advice = 'Change it by `systemctl edit`.'
  for (const [name, text] of Object.entries(units)) await writeOwn(`${layout.units}/${name}`, text, advice)

  const names = Object.keys(units)
  const there = machine.root === '/'
  steps.push({
    do: 'run',
    argv: ['systemd-sysusers', ...(there ? [] : [`--root=${machine.root}`]), 'holdfast.conf'],
  })
  if (there) steps.push({ do: 'run', argv: ['systemctl', 'daemon-reload'] })
  steps.push({
    do: 'run',
    argv: ['systemctl', ...(there ? [] : [`--root=${machine.root}`]), 'enable', ...names],
  })
  // Restarting costs nothing: what ran goes on.
  if (there && request.start) steps.push({ do: 'run', argv: ['systemctl', 'restart', ...names] })
  return steps
}

/** Throws `request.exists` where other parts are installed: installing takes nothing away. */
async function partOf(machine: Machine, wanted: Part | undefined): Promise<Part> {
  const there: ('api' | 'worker')[] = []
  for (const name of ['api', 'worker'] as const) {
    const text = await machine.read(`${layout.units}/holdfast-${name}.service`)
    if (text !== undefined && authorship(text).by !== 'others') there.push(name)
  }
  if (wanted === undefined) return there.length === 1 ? (there[0] ?? 'all') : 'all'
  const other = there.find(name => wanted !== 'all' && name !== wanted)
  if (other === undefined) return wanted
  throw new HoldfastError('request.exists', `holdfast-${other}.service is installed on this machine.`, {
    hint: 'First `holdfast uninstall`, which keeps data and settings; then install the part.',
  })
}

/** One part alone is of no use without the way to the others. */
function expectComplete(part: Part, values: Record<string, string>, present: readonly Secret[]): void {
  const wants: Record<Part, readonly string[]> = {
    all: [],
    api: ['HOLDFAST_TEMPORAL_ADDRESS'],
    worker: ['HOLDFAST_TEMPORAL_ADDRESS', 'HOLDFAST_URL', 'HOLDFAST_WORKER_TOKEN'],
  }
  const missing = wants[part].filter(name => !values[name] && !present.some(secret => secret === name))
  if (missing.length === 0) return
  throw new HoldfastError(
    'settings.invalid',
    `Installing the ${part} alone: ${missing.map(name => (name.endsWith('_TOKEN') ? `${name}_FILE` : name)).join(', ')} ${missing.length === 1 ? 'is' : 'are'} not set.`,
    {
      hint: 'Temporal and the API must be reached from this machine; HOLDFAST_WORKER_TOKEN_FILE names a copy of the worker.token of the API.',
    },
  )
}

/** What an earlier installation was told: installing again takes nothing away. */
async function writableBefore(machine: Machine): Promise<string[]> {
  const text = (await machine.read(`${layout.units}/holdfast-worker.service`)) ?? ''
  return writableOf(text)
}

async function hostBefore(machine: Machine): Promise<string | undefined> {
  const text = (await machine.read(`${layout.units}/holdfast-worker.service`)) ?? ''
  return /^ExecStart=.* worker --host ([a-z0-9-]+)$/m.exec(text)?.[1]
}

const userText = `u holdfast - "Holdfast" ${layout.home}\n`

async function refuseOthers(machine: Machine, path: string): Promise<void> {
  const text = await machine.read(path)
  if (text === undefined) return
  const { by } = authorship(text)
  if (by === 'us') return
  throw new HoldfastError(
    'request.exists',
    by === 'others'
      ? `${machine.at(path)} is there, and \`holdfast install\` did not write it.`
      : `${machine.at(path)} was changed by hand since \`holdfast install\` wrote it.`,
    {
      hint: 'Move your changes to a drop-in (`systemctl edit`), move the file away, then install again.',
    },
  )
}

/** Does what is listed, in order. */
export async function carryOut(machine: Machine, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    switch (step.do) {
      case 'write':
        // The same text may have got another mode.
        await machine.write(step.path, step.text, step.mode)
        break
      case 'copy': {
        const to = machine.at(step.to)
        await mkdir(dirname(to), { recursive: true, mode: 0o755 })
        await copyFile(step.from, `${to}.new`)
        await rename(`${to}.new`, to)
        break
      }
      case 'remove':
        await machine.remove(step.path)
        break
      case 'run':
        await machine.run(step.argv)
    }
  }
}
