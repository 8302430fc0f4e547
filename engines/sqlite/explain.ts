/** What sqlite3, dd and ln mean when they fail. */
import type { HoldfastError } from '../../model/errors.ts'
import type { CommandResult } from '../engine.ts'
import { explainCommon, explainSignal, type StepWords, toolError } from '../explain.ts'
import { installs } from './shell.ts'

export function explain(result: CommandResult, step: StepWords): HoldfastError | undefined {
  const said = result.stderrTail
  const error = (code: Parameters<typeof toolError>[0], what: string, hint?: string) =>
    toolError(code, result, step, what, hint)

  // What our own scripts refuse: sqlite3 echoes the statement, or only says that it is no JSON.
  if (/malformed JSON/i.test(said)) {
    return error(
      'restore.target-changed',
      'the file is not the one that the plan names, or its content changed meanwhile',
    )
  }
  const common = explainCommon(result, step, installs)
  if (common) return common
  if (/ln: .*: File exists/i.test(said))
    return error('restore.target-exists', 'a file of that name exists already')
  if (/ln: .*(Operation not permitted|not supported)/i.test(said)) {
    return error(
      'restore.mismatch',
      'the file system of the target has no hard links, so a file cannot appear there whole or not at all',
      'Restore to a file system with hard links (ext4, XFS, Btrfs, ZFS, APFS), then move the file.',
    )
  }
  if (/attempt to write a readonly database/i.test(said) && step.writesTo === undefined) {
    return error(
      'database.corrupted',
      'an application that crashed left a journal to be rolled back, which a backup does not do',
      'Open the database once with its application or with sqlite3, so that SQLite rolls the journal back.',
    )
  }
  if (/malformed|file is not a database|file is encrypted|CORRUPTION ERROR/i.test(said)) {
    return error('database.corrupted', 'SQLite says that the file is damaged or not a database')
  }
  if (/source database is busy/i.test(said)) {
    return error('database.busy', 'others write all the time, or hold its lock')
  }
  if (/database( table)? is locked|database schema is locked/i.test(said)) {
    return error('database.busy', 'another session held its lock for longer than 30 seconds')
  }
  if (/Permission denied|authorization denied/i.test(said)) {
    return error(
      'database.privilege',
      'this user may not read or write there',
      'Give the user of the worker access to the file and its directory.',
    )
  }
  if (/unable to open database/i.test(said)) {
    return error(
      'database.missing',
      'the file cannot be opened',
      'Check the path, and that the user of the worker may read the file and its directory.',
    )
  }
  if (/No such file or directory/i.test(said))
    return error('database.missing', 'the file or its directory is not there')
  return explainSignal(result, step)
}
