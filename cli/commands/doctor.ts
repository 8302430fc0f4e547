import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { readRuntime, settingsOf } from '../context.ts'
import { fileFindings } from '../doctor/files.ts'
import { type Finding, section } from '../doctor/findings.ts'
import { askApi, clockFindings, portFindings, temporalFindings } from '../doctor/services.ts'
import { type EffectiveSetting, effectiveSettings } from '../doctor/settings.ts'
import { systemName, toolFindings } from '../doctor/tools.ts'
import { configPath, readConfig } from '../profiles.ts'
import { clean, padEnd, paint, print, printJson, wrapped } from '../terminal.ts'
import { trustAlso } from '../trust.ts'
import { type ClientSettings, clientSettings, type GlobalOptions } from '../whom.ts'

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('what is missing on this machine, how to get it, and which settings are in force')
    .option('--all', 'settings that are at their default, too')
    .addHelpText(
      'after',
      '\nNeeds nothing running. Changes nothing.\n\nExit codes: 0 all is well · 1 something to know · 2 something does not work\n\nExamples:\n  holdfast doctor\n  holdfast doctor --json | jq ".findings[] | select(.answer != \\"pass\\")"',
    )
    .action(async (options: { all?: boolean }, command: Command) => {
      const given: GlobalOptions = command.optsWithGlobals()
      const { findings, settings } = await examine(given)
      const worst = findings.some(one => one.answer === 'fail')
        ? 2
        : findings.some(one => one.answer === 'warn')
          ? 1
          : 0
      process.exitCode = worst
      if (given.json) printJson({ system: systemName(), settings, findings })
      else show(findings, settings, options.all === true)
    })
}

async function examine(given: GlobalOptions): Promise<{ findings: Finding[]; settings: EffectiveSetting[] }> {
  const configured = section('settings')
  const whom = whomToAsk(given, configured)
  if (whom === undefined) return { findings: configured.findings, settings: [] }
  const { settings } = whom
  const runtime = readRuntime(settings.home)
  const api = await askApi(whom)
  const largest = Math.max(
    0,
    ...(api.answer?.status.databases ?? []).map(one => one.latestBackup?.toolBytes ?? 0),
  )
  return {
    settings: effectiveSettings(whom, process.env, given.home !== undefined),
    findings: [
      ...(await toolFindings(process.env, api.answer?.connections)),
      ...configured.findings,
      ...(await fileFindings(settings, largest)),
      ...api.findings,
      ...(await temporalFindings(settings, runtime)),
      ...(await portFindings(settings, runtime, api.answer)),
      ...(await clockFindings(settings, api.answer, runtime)),
    ],
  }
}

/** A setting that cannot be used is a finding, too. */
function whomToAsk(given: GlobalOptions, rows: ReturnType<typeof section>): ClientSettings | undefined {
  try {
    const whom = clientSettings(given, process.env, settingsOf(given.home))
    const count = Object.keys(readConfig(process.env).profiles).length
    if (count > 0) rows.pass('profiles', `${count} in ${configPath(process.env)}`)
    if (whom.settings.ca !== undefined) trustAlso(whom.settings.ca)
    return whom
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    rows.fail('settings', error.message, error.hint)
    return undefined
  }
}

const marks = { pass: '✓', warn: '!', fail: '✗' } as const
const colours = { pass: 'green', warn: 'yellow', fail: 'red' } as const

function show(findings: readonly Finding[], settings: readonly EffectiveSetting[], all: boolean): void {
  const columns = process.stdout.columns ?? 80
  const width = Math.min(20, Math.max(...findings.map(one => one.title.length)))
  const indent = ' '.repeat(width + 6)
  print(paint('bold', systemName()))
  let heading = ''
  for (const one of findings) {
    if (one.section !== heading) print(`\n${paint('dim', one.section)}`)
    heading = one.section
    const [first = '', ...rest] = wrapped(clean(one.detail), indent, columns)
    print(
      `  ${paint(colours[one.answer], marks[one.answer])} ${padEnd(clean(one.title), width)}  ${first.trimStart()}`,
    )
    for (const line of rest) print(line)
    if (one.hint !== undefined)
      for (const line of wrapped(`→ ${clean(one.hint)}`, indent, columns)) print(line)
  }
  const shown = settings.filter(one => all || one.origin !== 'default')
  if (shown.length > 0)
    print(
      `\n${paint('dim', all ? 'settings in force' : 'settings that are not at their default (--all: every one)')}`,
    )
  for (const { name, value, origin } of shown)
    print(`  ${name}=${clean(value ?? '')}  ${paint('dim', `(${origin})`)}`)
  const count = (answer: Finding['answer']) => findings.filter(one => one.answer === answer).length
  print(`\n${count('pass')} well, ${count('warn')} to know, ${count('fail')} to mend`)
}
