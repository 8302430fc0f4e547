/** Files of a machine that only a shell reaches. */
import { randomBytes } from 'node:crypto'
import { isAbsolute } from 'node:path'
import { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import { stagingCode } from '../files.ts'
import type { FileStat, Host } from '../host.ts'
import type { ShellProcess } from '../place.ts'
import { filesScript } from '../script.ts'
import { type Remote, remoteShell, withWords } from './channel.ts'
import type { Size } from './link.ts'

const smallBytes = 16 * 1024 * 1024
const gone = 4
const short = 5
const large = 6

/** Everything a short program prints. */
export async function collect(
  shell: ShellProcess,
  input?: Uint8Array,
): Promise<{ exit: number; stdout: Buffer; stderr: string }> {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  const ended = (['stdout', 'stderr'] as const).map(
    name =>
      new Promise<void>(resolve => {
        shell[name].on('data', (chunk: Buffer) => chunks[name].push(chunk))
        shell[name].once('close', resolve)
      }),
  )
  shell.stdin.end(input)
  const exit = await shell.gone
  await Promise.all(ended)
  return {
    exit,
    stdout: Buffer.concat(chunks.stdout),
    stderr: Buffer.concat(chunks.stderr).toString('utf8'),
  }
}

export function remoteFiles(remote: Remote, stagingRoot: string): Host['files'] {
  const shell = (words: readonly string[], size: Size) =>
    remoteShell(remote, withWords(filesScript, words), size)

  const failed = (doing: string, path: string, exit: number, said: string): Error => {
    const detail = `${doing} ${path} on ${remote.name}: ${said.trim().slice(-500) || `it failed with ${exit}`}`
    if (exit === gone) return Object.assign(new Error(`${detail}: it is not there`), { code: 'ENOENT' })
    if (exit === short) {
      return new HoldfastError(
        'host.unreachable',
        `${doing} ${path} on ${remote.name}: not all bytes arrived.`,
      )
    }
    return new HoldfastError(stagingCode(said) ?? 'internal', `${detail}.`, { context: { path } })
  }

  async function ask(
    doing: string,
    path: string,
    words: readonly string[],
    options: { input?: Uint8Array; allow?: number } = {},
  ): Promise<{ exit: number; stdout: Buffer }> {
    assertAbsolute(doing, path)
    const { exit, stdout, stderr } = await collect(await shell(words, 'short'), options.input)
    if (exit !== 0 && exit !== options.allow) throw failed(doing, path, exit, stderr)
    return { exit, stdout }
  }
  const number = async (doing: string, path: string, words: readonly string[]): Promise<number> => {
    const { stdout } = await ask(doing, path, words)
    const answer = Number(stdout.toString('latin1').trim() || Number.NaN)
    if (Number.isInteger(answer)) return answer
    throw new HoldfastError('host.unreachable', `${doing} ${path} on ${remote.name}: no answer.`)
  }

  return {
    async stat(path) {
      const { exit, stdout } = await ask('Looking at', path, ['stat', path], { allow: gone })
      return exit === gone ? undefined : statOf(stdout.toString('utf8'))
    },
    async list(path) {
      const { exit, stdout } = await ask('Listing', path, ['list', path], { allow: gone })
      return exit === gone ? [] : stdout.toString('utf8').split('\n').slice(0, -1)
    },
    size: path => number('Measuring', path, ['size', path]),
    read(path, range) {
      const { offset, length } = { offset: 0, ...range }
      const open = () => shell(['read', path, String(offset), String(length ?? -1)], 'long')
      return Readable.from(bytesOf(path, open, offset, length), { objectMode: false })
    },
    async write(path, data) {
      const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data
      const words = ['write', path, String(bytes.length), randomBytes(6).toString('hex')]
      await ask('Writing', path, words, { input: bytes })
    },
    async readSmall(path) {
      const words = ['read-small', path, String(smallBytes)]
      const { exit, stdout } = await ask('Reading', path, words, { allow: gone })
      return exit === gone ? undefined : stdout.toString('utf8')
    },
    async append(path, line) {
      if (line.includes('\n'))
        throw new HoldfastError('internal', `Appending to ${path}: more than one line.`)
      await ask('Appending to', path, ['append', path, line])
    },
    async ensureDirectory(path) {
      await ask('Making the directory', path, ['ensure', path, stagingRoot])
    },
    async remove(path) {
      if (/^\/*$/.test(path)) throw new HoldfastError('internal', `Removing ${path}: refused.`)
      await ask('Removing', path, ['remove', path])
    },
    freeBytes: path => number('Asking for free space at', path, ['free', path]),
  }

  async function* bytesOf(
    path: string,
    open: () => Promise<ShellProcess>,
    offset: number,
    length: number | undefined,
  ): AsyncGenerator<Buffer> {
    assertAbsolute('Reading', path)
    const running = await open()
    let said = ''
    running.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString('utf8').slice(0, 4096)
    })
    let bytes = 0
    try {
      for await (const chunk of running.stdout) {
        bytes += (chunk as Buffer).length
        yield chunk as Buffer
      }
    } finally {
      running.stdin.end()
      running.stdout.destroy()
    }
    const exit = await running.gone
    if (exit !== 0) throw failed('Reading', path, exit, exit === large ? 'it is too large' : said)
    if (length !== undefined && bytes < length) {
      throw new HoldfastError(
        'staging.changed',
        `Reading ${path}: it ends at byte ${offset + bytes}, ${length - bytes} bytes earlier than asked for.`,
        { context: { path } },
      )
    }
  }
}

function assertAbsolute(doing: string, path: string): void {
  if (!isAbsolute(path)) throw new HoldfastError('internal', `${doing} ${path}: the path is not absolute.`)
}

function statOf(line: string): FileStat {
  const [bytes = '', seconds = '', inode = '', ...kind] = line.trim().split(' ')
  const words = kind.join(' ')
  return {
    bytes: Number(bytes),
    kind: words.startsWith('regular') ? 'file' : words === 'directory' ? 'directory' : 'other',
    modifiedAtMs: Number(seconds) * 1000,
    inode,
  }
}
