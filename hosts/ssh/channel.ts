/** A shell at the other end of a link, as the rest of hosts/ knows shells. */
import { randomBytes } from 'node:crypto'
import { Readable, Writable } from 'node:stream'
import type { ClientChannel } from 'ssh2'
import { HoldfastError } from '../../model/errors.ts'
import type { ShellProcess } from '../place.ts'
import { quote } from '../quote.ts'
import { broken } from '../shell.ts'
import { endFilter, startFilter } from './filters.ts'
import type { Link, Size } from './link.ts'

export interface Remote {
  /** For errors. */
  name: string
  link: Link
  user: string
  /** Everything runs as this user, by sudo. */
  runAs: string | null
}

/**
 * What sshd hands to the login's own shell, whatever that is. Everything else comes through its standard input as one
 * line, so that nothing of it is ever in an argument list.
 */
const bootstrap = `/bin/sh -c 'IFS= read -r hf_text && eval "$(printf %b "$hf_text")"'`

/** Text for `printf %b`, in one line of plain characters. */
const inOneLine = (text: string): string =>
  Array.from(Buffer.from(text, 'utf8'), byte =>
    byte === 0x5c
      ? '\\\\'
      : byte === 0x0a
        ? '\\n'
        : byte < 0x20 || byte > 0x7e
          ? `\\0${byte.toString(8).padStart(3, '0')}`
          : String.fromCharCode(byte),
  ).join('')

/** The text, with these as its `$1`, `$2` … */
export const withWords = (text: string, words: readonly string[]): string =>
  `set -- ${words.map(quote).join(' ')}\n${text}`

/** Runs the text in a shell there. `endMark`: where its output ends, although its pipe stays open. */
export async function remoteShell(
  remote: Remote,
  text: string,
  size: Size,
  endMark?: string,
): Promise<ShellProcess> {
  const sudo = remote.runAs === null ? '' : `sudo -n -H -u ${quote(remote.runAs)} -- `
  const channel = await remote.link.exec(`exec ${sudo}${bootstrap}`, size)
  // What a login prints before us (a profile, a banner) is no output of ours.
  const mark = `\x04holdfast ${randomBytes(16).toString('hex')}\n`
  const say = `printf %s ${quote(mark)}`
  channel.write(`${inOneLine(`${say}; ${say} >&2\n${text}`)}\n`)
  return processOf(remote, channel, mark, endMark)
}

function processOf(
  remote: Remote,
  channel: ClientChannel,
  mark: string,
  endMark: string | undefined,
): ShellProcess {
  const before = { stdout: '', stderr: '' }
  let begun = false
  let killed = false
  const lost = (what: string) =>
    new HoldfastError('host.unreachable', `Talking to a shell on ${remote.name}: ${what}.`)
  const onBegun = () => {
    begun = true
  }
  const begins = (name: 'stdout' | 'stderr') =>
    startFilter(
      mark,
      text => {
        before[name] += text
      },
      onBegun,
    )
  const trouble = () => (remote.link.broke(channel) ? lost('the connection broke') : undefined)
  const beginnings = { stdout: begins('stdout'), stderr: begins('stderr') }
  const stdout = output(channel, beginnings.stdout, endMark, trouble)
  // Whoever reads reports hears of a broken connection from `gone`.
  const stderr = output(channel.stderr, beginnings.stderr, undefined, () => undefined)
  let closed = false
  const stdin = new Writable({
    highWaterMark: 1024 * 1024,
    write(chunk: Buffer, _encoding, callback) {
      if (closed || !channel.writable) callback(broken())
      else channel.write(chunk, () => callback())
    },
    final(callback) {
      if (!closed) channel.end()
      callback()
    },
    destroy(error, callback) {
      if (!closed) channel.end()
      callback(error)
    },
  })
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => {})
  channel.on('error', () => {})
  const gone = new Promise<number>((resolve, reject) => {
    channel.once('close', () => {
      closed = true
      const exit = remote.link.exit(channel)
      stdin.destroy(broken())
      if (killed) reject(lost('it took too long'))
      else if (exit === undefined) reject(lost('the connection broke'))
      else if (begun) resolve(exit)
      else {
        // Its last words may be on their way through our own streams.
        setImmediate(() => {
          for (const beginning of Object.values(beginnings)) beginning.end()
          reject(refused(remote, exit, `${before.stderr}${before.stdout}`.trim()))
        })
      }
    })
  })
  gone.catch(() => {})
  return {
    stdin,
    stdout,
    stderr,
    gone,
    spilled: () => false,
    kill() {
      killed = true
      channel.signal('KILL')
      channel.close()
    },
    unref: () => {},
  }
}

/** One of the channel's outputs, without what is not ours. It is destroyed with an error if it did not come to its end. */
function output(
  source: Readable,
  begin: ReturnType<typeof startFilter>,
  endMark: string | undefined,
  trouble: () => Error | undefined,
): Readable {
  let over = false
  const finish = () => {
    if (over) return
    over = true
    stream.push(null)
    // What may follow is thrown away: the channel closes only when everything was read.
    source.resume()
  }
  const end = endFilter(endMark)
  const stream = new Readable({
    highWaterMark: 1024 * 1024,
    read() {
      source.resume()
    },
    destroy(error, callback) {
      over = true
      source.resume()
      callback(error)
    },
  })
  source.on('data', (chunk: Buffer) => {
    if (over) return
    const { bytes, ended } = end(begin.take(chunk))
    if (bytes.length > 0 && !stream.push(bytes)) source.pause()
    if (ended) finish()
  })
  source.once('end', () => {
    begin.end()
    if (over) return
    const error = trouble()
    if (error) stream.destroy(error)
    else finish()
  })
  return stream
}

/** Our shell never began: what was said instead. */
function refused(remote: Remote, exit: number, said: string): HoldfastError {
  const words = said.slice(-500)
  if (remote.runAs !== null && (/^sudo:|\bsudoers\b/m.test(said) || exit === 127)) {
    return new HoldfastError(
      'host.sudo',
      `Becoming ${remote.runAs} on ${remote.name}: sudo refused: ${words || `exit ${exit}`}.`,
      { hint: sudoHint(remote.user, remote.runAs) },
    )
  }
  return new HoldfastError(
    'host.unreachable',
    `Starting a shell on ${remote.name}: the login of ${remote.user} ended with ${exit}: ${words || 'it said nothing'}.`,
    { hint: 'The login needs a shell that runs /bin/sh: no forced command, not nologin.' },
  )
}

/** The exact lines, for a file below /etc/sudoers.d. */
export const sudoLines = (user: string, runAs: string): string[] => [
  `Defaults:${user} !requiretty`,
  `${user} ALL=(${runAs}) NOPASSWD: /bin/sh`,
]

const sudoHint = (user: string, runAs: string): string =>
  `On that machine: visudo -f /etc/sudoers.d/holdfast, with these lines: ${sudoLines(user, runAs).join(' ⏎ ')}`
