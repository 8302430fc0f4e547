/** What failed commands of every engine have in common: programs that are not there, full disks, signals. */
import { HoldfastError } from '../model/errors.ts'
import type { CommandResult } from './engine.ts'
import { lastWords } from './tail.ts'

export interface StepWords {
  title: string
  writesTo?: 'staging' | 'target'
}

/** The error of a failed step; quotes the tool's last lines and carries the exits. */
export function toolError(
  code: ConstructorParameters<typeof HoldfastError>[0],
  result: CommandResult,
  step: StepWords,
  what: string,
  hint?: string,
): HoldfastError {
  const said = lastWords(result.stderrTail)
  const exits = result.exits.join(', ')
  return new HoldfastError(
    code,
    `${step.title}: ${what} (exit ${exits}).${said === '' ? '' : ` The tool said: ${said}`}`,
    {
      context: { exitCode: result.exits.find(exit => exit !== 0) ?? 0, stderrTail: said },
      ...(hint === undefined ? {} : { hint }),
    },
  )
}

/** `install` says per program what to install. */
export function explainCommon(
  result: CommandResult,
  step: StepWords,
  install: Record<string, string>,
): HoldfastError | undefined {
  const said = result.stderrTail
  if (result.exits.includes(127)) {
    const name = Object.keys(install).find(tool => new RegExp(`\\b${tool}\\b`).test(said))
    const how = name === undefined ? undefined : install[name]
    return toolError(
      'host.tool-missing',
      result,
      step,
      name === undefined
        ? 'a program is not installed on this host'
        : `${name} is not installed on this host`,
      how,
    )
  }
  return step.writesTo === undefined ? undefined : explainFileSystem(result, step, step.writesTo)
}

/** Whose the file system is decides the code: what to do about it is another thing for each. */
function explainFileSystem(
  result: CommandResult,
  step: StepWords,
  writesTo: 'staging' | 'target',
): HoldfastError | undefined {
  const said = result.stderrTail
  const [place, quota, full, readOnly] =
    writesTo === 'staging'
      ? (['the staging', 'staging.quota', 'staging.full', 'staging.read-only'] as const)
      : (["the target's", 'restore.target-quota', 'restore.target-full', 'restore.target-read-only'] as const)
  if (/Disk quota exceeded/i.test(said)) {
    return toolError(quota, result, step, `the quota on ${place} file system is used up`)
  }
  if (/No space left on device|database or disk is full/i.test(said)) {
    return toolError(full, result, step, `${place} file system is full`)
  }
  if (/Read-only file system/i.test(said)) {
    return toolError(readOnly, result, step, `${place} file system is read-only`)
  }
  if (denied.test(said)) {
    return writesTo === 'staging'
      ? toolError('staging.permission', result, step, 'staging cannot be written')
      : toolError('restore.target-permission', result, step, 'the target cannot be written')
  }
  return undefined
}

/**
 * As tools say it of what they write; what they may not read is said otherwise. A socket that may not be opened is no file,
 * and a link that is not permitted may be one that the file system does not know.
 */
const denied =
  /^(?!ln: )(?!.*connection to server).*(could not|cannot|can't|failed to) (create|open|write|extend|mkdir|remove)\b.*: (Permission denied|Operation not permitted)$/im

/** A stage that a signal ended (128 + n), SIGPIPE aside: that one follows from another stage's failure. */
export function explainSignal(result: CommandResult, step: StepWords): HoldfastError | undefined {
  const exit = result.exits.find(code => code > 128 && code !== 141 && code <= 192)
  if (exit === undefined) return undefined
  return toolError('tool.interrupted', result, step, `it was stopped by signal ${exit - 128}`)
}
