import { join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { slugPattern } from '../../model/ids.ts'
import { environmentWithFiles } from '../context.ts'
import { carryOut, planInstall, type Step } from '../install/install.ts'
import { layout, type Part, parts, secrets } from '../install/layout.ts'
import { checkMachine, checkProgram, type Machine, openMachine } from '../install/machine.ts'
import { installStatus } from '../install/status.ts'
import { planUninstall } from '../install/uninstall.ts'
import { ensureTemporal, findTemporal, temporalServerVersion } from '../temporal-binary.ts'
import { askLine, clean, note, print, printJson, table } from '../terminal.ts'
import type { GlobalOptions } from '../whom.ts'

interface Options extends GlobalOptions {
  root: string
  dryRun?: boolean
}
interface InstallOptions extends Options {
  status?: boolean
  start: boolean
  writable: string[]
  part?: Part
  host?: string
}
interface UninstallOptions extends Options {
  purge?: boolean
  yes?: boolean
}

const program = join(import.meta.dirname, '../..')

export function installCommands(commands: Command): void {
  commands
    .command('install')
    .description('make Holdfast services of this machine: systemd units, a user of their own')
    .option('--status', 'only say what is installed and what runs')
    .option('--dry-run', 'only show every file and command')
    .addOption(
      new Option(
        '--part <part>',
        'a machine with a worker or the API alone; default: what is installed, else all',
      ).choices(parts),
    )
    .option('--host <host>', 'with --part worker: it lives on this host, and serves no other')
    .option('--writable <dir>', 'restores may write there, too; may be given again', gather, [])
    .option('--no-start', 'enable the services without starting them')
    .option('--root <dir>', 'write below this directory instead of /, and start nothing', '/')
    .addHelpText(
      'after',
      `
Settings come from the environment: HOLDFAST_API_…, HOLDFAST_TEMPORAL_…, HOLDFAST_LOG_…, HOLDFAST_URL, HOLDFAST_CA and
HOLDFAST_MACHINE_WAIT_SECONDS go to ${layout.settings}, secrets to ${layout.credentials} (0600). Without
HOLDFAST_TEMPORAL_ADDRESS Temporal is installed, too. May be run again.

Examples:
  sudo holdfast install
  holdfast install --dry-run
  sudo HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 HOLDFAST_CATALOG_URL_FILE=/root/catalog-url holdfast install
  sudo HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 HOLDFAST_URL=https://holdfast.example \\
    HOLDFAST_WORKER_TOKEN_FILE=/root/worker.token holdfast install --part worker
  sudo HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 HOLDFAST_URL=https://holdfast.example \\
    HOLDFAST_WORKER_TOKEN_FILE=/root/host.token holdfast install --part worker --host db1`,
    )
    .action(async (_options: unknown, command: Command) => {
      const options: InstallOptions = command.optsWithGlobals()
      const machine = openMachine(resolve(options.root))
      if (options.host !== undefined && !slugPattern.test(options.host)) {
        throw new HoldfastError('request.invalid', `"${options.host}" is no name of a host.`)
      }
      if (options.status === true) return showStatus(machine, options.json === true)
      if (options.dryRun !== true) await checkMachine(machine)
      await checkProgram(program)
      const steps = await planInstall(machine, {
        program,
        part: options.part,
        host: options.host,
        env: environmentWithFiles(process.env, secrets),
        temporal: () => temporalProgram(options.dryRun === true),
        writable: options.writable.map(path => resolve(path)),
        start: options.start,
      })
      if (options.dryRun === true) return show(machine, steps, options.json === true)
      await carryOut(machine, steps)
      if (options.json === true) printJson({ steps: steps.map(plainly) })
      else {
        for (const step of steps) print(line(machine, step))
        for (const next of nextSteps(machine, steps)) note(next)
      }
    })

  commands
    .command('uninstall')
    .description('take the services away; data stays unless --purge')
    .option('--dry-run', 'only show what would be removed')
    .option('--purge', 'remove data, settings, credentials and the user, too; asks')
    .option('--yes', 'do not ask')
    .option('--root <dir>', 'below this directory instead of /', '/')
    .addHelpText('after', '\nExamples:\n  sudo holdfast uninstall\n  sudo holdfast uninstall --purge')
    .action(async (_options: unknown, command: Command) => {
      const options: UninstallOptions = command.optsWithGlobals()
      const machine = openMachine(resolve(options.root))
      const { steps, foreign, data } = await planUninstall(machine, options.purge === true)
      for (const path of foreign) note(`left: ${machine.at(path)} was not written by holdfast install`)
      if (options.dryRun === true) return show(machine, steps, options.json === true)
      await checkMachine(machine)
      if (options.purge === true && options.yes !== true) await confirmPurge(machine, steps)
      await carryOut(machine, steps)
      if (options.json === true) printJson({ steps: steps.map(plainly), kept: options.purge ? [] : data })
      else {
        for (const step of steps) print(line(machine, step))
        if (steps.length === 0) print('Nothing is installed.')
        if (options.purge !== true) for (const path of data) print(`kept ${machine.at(path)}`)
      }
    })
}

const gather = (value: string, former: string[]): string[] => [...former, value]

async function temporalProgram(dryRun: boolean): Promise<{ program: string; serverVersion: string }> {
  const found = findTemporal(process.env)
  // A dry run fetches nothing: what is not here yet has no version.
  if (found === undefined && dryRun) return { program: '(temporal, got first)', serverVersion: 'VERSION' }
  const path = found ?? (await ensureTemporal({ onProgress: text => note(`temporal: ${text}`) }))
  return { program: path, serverVersion: await temporalServerVersion(path) }
}

/** Secrets are shown to nobody. */
const plainly = (step: Step) => (step.do === 'write' && step.secret ? { ...step, text: '(a secret)' } : step)

function line(machine: Machine, step: Step): string {
  switch (step.do) {
    case 'write':
      return `${step.change === 'same' ? 'keep  ' : 'write '} ${machine.at(step.path)}`
    case 'copy':
      return `copy   ${step.from} to ${machine.at(step.to)}`
    case 'remove':
      return `remove ${machine.at(step.path)} (${step.what})`
    case 'run':
      return `run    ${step.argv.join(' ')}`
  }
}

function show(machine: Machine, steps: readonly Step[], json: boolean): void {
  if (json) {
    printJson({ steps: steps.map(plainly) })
    return
  }
  for (const step of steps.map(plainly)) {
    print(line(machine, step))
    if (step.do !== 'write' || step.change === 'same') continue
    for (const text of step.text.trimEnd().split('\n')) print(`  | ${clean(text)}`)
  }
  if (steps.length === 0) print('Nothing to do.')
}

async function showStatus(machine: Machine, json: boolean): Promise<void> {
  const status = await installStatus(machine)
  if (json) printJson(status)
  else if (status.files.length === 0) print('Nothing is installed.')
  else {
    table(
      ['unit', 'enabled', 'state', 'since'],
      status.units.map(one => [one.unit, one.enabled ? 'yes' : 'no', one.active, one.since ?? '']),
    )
    print()
    const words = {
      ours: '',
      older: 'of another version: run `holdfast install`',
      edited: 'changed by hand',
      foreign: 'not ours',
    }
    table(
      ['file', 'version', ''],
      status.files.map(one => [machine.at(one.path), one.version ?? '', words[one.state]]),
    )
    print()
    print(`this Holdfast: ${status.version}; data: ${status.home ?? 'none yet'}`)
  }
  if (!status.installed) process.exitCode = 4
}

async function confirmPurge(machine: Machine, steps: readonly Step[]): Promise<void> {
  note('This removes, for good:')
  for (const step of steps) if (step.do === 'remove') note(line(machine, step))
  const answer = await askLine(`Type ${layout.home} to go on: `)
  if (answer.trim() !== layout.home) {
    throw new HoldfastError('request.forbidden', 'Nothing was removed: the answer was another.', {
      hint: 'Without --purge data stays.',
    })
  }
}

function nextSteps(machine: Machine, steps: readonly Step[]): string[] {
  if (machine.root !== '/') return []
  const has = (unit: string) =>
    steps.some(step => step.do === 'write' && step.path === `${layout.units}/${unit}`)
  const home = `HOLDFAST_HOME=${layout.home}`
  if (!has('holdfast-api.service')) return []
  return [
    '',
    `As root: ${home} holdfast keys new default     # then copy the key file elsewhere`,
    has('holdfast-worker.service')
      ? `         ${home} holdfast destination add local ${layout.home}/backups`
      : `For each worker's machine: a copy of ${layout.home}/worker.token, then \`holdfast install --part worker\` there.`,
  ]
}
