/** `holdfast`: a thin client of the API, plus `up`, `api`, `worker` and `recover`. */
import { CommanderError } from 'commander'
import { errorTable, HoldfastError } from '../model/errors.ts'
import { createProgram } from './program.ts'
import { printError } from './terminal.ts'

// `holdfast … | head` ends the reader first; that is no failure of ours.
process.stdout.on('error', error => {
  if ('code' in error && error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  const args = process.argv.slice(2)
  const program = await createProgram(args)
  await program.parseAsync(args, { from: 'user' })
} catch (error) {
  process.exitCode = report(error)
}

function report(error: unknown): number {
  if (error instanceof HoldfastError) {
    printError(error.facts())
    return errorTable[error.code].exit
  }
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0
    const detail = error.message.replace(/^error: /, '')
    if (error.code === 'commander.help') return 2
    printError({
      code: 'request.invalid',
      detail,
      hint: 'See `holdfast --help`, or `--help` after any command.',
    })
    return errorTable['request.invalid'].exit
  }
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
  printError({ code: 'internal', detail, hint: errorTable.internal.hint })
  return errorTable.internal.exit
}
