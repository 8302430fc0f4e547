/** Tells somebody outside what happened: a program of the operator's choice, which gets the event as JSON. */
import { spawn } from 'node:child_process'
import { type ErrorFacts, HoldfastError } from '../model/errors.ts'

export type Notification = {
  /** '': it is of none. */
  operation: string
  /** What the operation does, in words. */
  title: string
} & (
  | { event: 'operation.parked'; error: ErrorFacts }
  /** A verification found what cannot be restored. */
  | { event: 'backup.damaged'; error: ErrorFacts }
  /** A backup could not be restored in a rehearsal, or not as it has to be. */
  | { event: 'drill.failed'; error: ErrorFacts }
  /** The work is done and stands, and something of it is not. */
  | { event: 'operation.partial'; error: ErrorFacts }
  /** Something is wrong with how the log of a server is archived, or is not any more. Of no operation. */
  | { event: 'log.alarm'; connection: string; error: ErrorFacts }
  | { event: 'log.mended'; connection: string; error: ErrorFacts }
  /** It was approved without the second person that the connection demands. */
  | { event: 'approval.break-glass'; by: string; reason: string }
)

const limitSeconds = 30

/**
 * Runs the program without arguments, the event on its standard input, with `PATH`, `HOME` and `HOLDFAST_EVENT` only: it
 * gets no secret of this process. At least once: a worker that dies after it ran runs it again. Without a program: nothing.
 */
export async function notify(
  program: string | undefined,
  notification: Notification,
  signal: AbortSignal,
): Promise<void> {
  if (program === undefined) return
  const failed = (why: string) =>
    new HoldfastError('notification.failed', `Notifying of ${notification.event} by ${program}: ${why}.`)
  await new Promise<void>((resolve, reject) => {
    const child = spawn(program, [], {
      env: {
        PATH: process.env.PATH ?? '',
        HOME: process.env.HOME ?? '',
        HOLDFAST_EVENT: notification.event,
      },
      stdio: ['pipe', 'ignore', 'pipe'],
      signal: AbortSignal.any([signal, AbortSignal.timeout(limitSeconds * 1000)]),
      killSignal: 'SIGKILL',
    })
    let said = ''
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (text: string) => {
      said = (said + text).slice(-1000)
    })
    child.on('error', error =>
      reject(failed(error.name === 'AbortError' ? `it did not end within ${limitSeconds} s` : error.message)),
    )
    child.on('close', code =>
      code === 0
        ? resolve()
        : reject(failed(`it exited with ${code}${said === '' ? '' : `: ${said.trim()}`}`)),
    )
    // A program that does not read is none of our business.
    child.stdin.on('error', () => {})
    child.stdin.end(`${JSON.stringify(notification)}\n`)
  })
}
