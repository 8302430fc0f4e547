/**
 * Generates the shell text that carries a job. All logic that matters is in sh/*.sh; here the command becomes
 * shell functions, each word through `quote`.
 */
import { readFileSync } from 'node:fs'
import type { Command, Stage } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { octal, quote } from './quote.ts'

const text = (name: string) => readFileSync(new URL(`./sh/${name}.sh`, import.meta.url), 'utf8')
const common = text('common')
const job = text('job')

/** Run as `sh -c CONTROL holdfast VERB …`; verbs: status, stop, stop-run, stop-operation, operations, remove, find. */
export const controlScript = common + text('control')
/** The same for files; see hosts/ssh/files.ts. */
export const filesScript = text('private') + text('files')
/** Prepares a job's directory and starts its script, where a worker cannot write files; see hosts/ssh/reach.ts. */
export const startScript = text('private') + text('start')

export interface JobSpec {
  mode: 'attached' | 'detached'
  /** Absolute path of the job's directory; `run` is the directory of this run in it. */
  jobDirectory: string
  run: string
  /** Where the programs run. */
  workDirectory: string
  /** How this very script is started again in a session of its own. */
  shell: readonly string[]
  command: Command
  /** The first program reads a FIFO that is filled by the worker. */
  feeds: boolean
  /** Detached jobs: standard output goes here, relative to the work directory. */
  stdoutFile?: string
  fence: number
  /** Attached jobs over a link: ended when no word came for so long; `endMark` follows the last byte of the output. */
  link?: { patienceSeconds: number; endMark: string }
}

export function jobScript(spec: JobSpec): string {
  const { stages } = spec.command
  const script = `${spec.jobDirectory}/${spec.run}/script`
  const input = spec.feeds
    ? `${spec.jobDirectory}/${spec.run}/feed`
    : spec.command.input === undefined
      ? '/dev/null'
      : `${spec.jobDirectory}/${spec.run}/input`
  const again = [...spec.shell, script].map(quote).join(' ')
  // For a feed the first stage reports once it has opened it: only then may the worker open its end.
  const first = spec.feeds ? "{ printf 'holdfast started\\n' >&2; hf_wrap 0; }" : 'hf_wrap 0'
  const others = stages.slice(1).map((_, index) => `hf_wrap ${index + 1}`)
  return [
    '#!/bin/sh',
    `hf_mode=${spec.mode}`,
    `hf_job=${quote(spec.jobDirectory)}`,
    `hf_run=${quote(spec.run)}`,
    `hf_data=${quote(spec.workDirectory)}`,
    `hf_fence=${Math.trunc(spec.fence)}`,
    `hf_stages=${stages.length}`,
    `hf_feeds=${spec.feeds ? 1 : 0}`,
    `hf_patience=${spec.link?.patienceSeconds ?? 0}`,
    `hf_end=${quote(spec.link?.endMark ?? '')}`,
    `hf_in=${quote(input)}`,
    `hf_stdout=${quote(spec.stdoutFile === undefined ? '/dev/null' : `./${spec.stdoutFile}`)}`,
    'hf_again() {',
    `  if command -v setsid >/dev/null; then exec setsid ${again}; fi`,
    `  if command -v perl >/dev/null; then exec perl -MPOSIX -e 'POSIX::setsid() > 0 or exit 1; exec @ARGV' ${again}; fi`,
    `  if command -v python3 >/dev/null; then exec python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' ${again}; fi`,
    "  hf_fail 'setsid is not installed (package util-linux)'",
    '}',
    'hf_secrets() {',
    ...secretNames(spec.command).map((_, index) => `  hf_secret; hf_secret_${index}=$hf_value`),
    '  hf_value=',
    '}',
    ...stages.flatMap((stage, index) => stageFunction(stage, index, secretNames(spec.command))),
    `hf_pipeline() { ${[`${first} <"$hf_in"`, ...others].join(' | ')}; }`,
    common + job,
  ].join('\n')
}

/** The secrets a command names, in the order in which they are piped to the wrapper. */
export function secretNames(command: Command): string[] {
  return [...new Set(command.stages.flatMap(stage => Object.keys(stage.secretEnv ?? {})))].sort()
}

/** The lines that `hf_secrets` reads. */
export function secretLines(command: Command, values: Readonly<Record<string, string>>): string {
  return secretNames(command)
    .map(name => {
      const value = values[name]
      if (value === undefined) {
        throw new HoldfastError(
          'internal',
          `Starting ${command.stages[0].argv[0]}: no value for the secret ${name}.`,
        )
      }
      return `${octal(value)}\n`
    })
    .join('')
}

function stageFunction(stage: Stage, index: number, secrets: readonly string[]): string[] {
  const [program] = stage.argv
  if (program === '' || program.startsWith('-')) {
    throw new HoldfastError(
      'request.invalid',
      `Preparing a command: "${program}" cannot be a program's name.`,
    )
  }
  const assignments = [
    ...Object.entries(stage.env ?? {}).map(([name, value]) => [name, quote(value)] as const),
    ...Object.keys(stage.secretEnv ?? {}).map(
      name => [name, `"$hf_secret_${secrets.indexOf(name)}"`] as const,
    ),
  ]
  const words = stage.argv.map(quote).join(' ')
  return [
    `hf_stage_${index}() {`,
    '  hf_locale',
    ...assignments.map(([name, value]) => `  ${environmentName(name)}=${value}; export ${name}`),
    // What a pipe holds at once.
    ...(stage.smallPieces
      ? [`  if command -v stdbuf >/dev/null; then exec stdbuf -i64K -o64K ${words}; fi`]
      : []),
    `  exec ${words}`,
    '}',
  ]
}

/** Names a shell keeps for itself would end it or change how it works. */
const reserved = new Set([
  '_',
  'PPID',
  'UID',
  'EUID',
  'GROUPS',
  'SHELLOPTS',
  'BASHOPTS',
  'BASH_VERSINFO',
  'IFS',
  'OPTIND',
])

function environmentName(name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || reserved.has(name) || name.startsWith('hf_')) {
    throw new HoldfastError(
      'request.invalid',
      `Preparing a command: "${name.slice(0, 64)}" cannot be the name of an environment variable.`,
    )
  }
  return name
}
