/** Identity, version and shape of a SQLite database file, and what can be said of a file that is to be made. */
import { createHash } from 'node:crypto'
import { dirname } from 'node:path'
import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import type { Command, CommandResult, Probe, ServerFacts } from '../engine.ts'
import type { SqliteConnection } from './connection.ts'
import { explain } from './explain.ts'
import { factsSql, sqliteFacts } from './facts.ts'
import { readOnlyShell } from './shell.ts'

/** Whichever is there: the id of the installation, else (in containers) the host name. */
const machine = {
  stages: [{ argv: ['cat', '--', '/etc/machine-id', '/proc/sys/kernel/hostname'] }],
} as const satisfies Command

export function probe(_connection: string, settings: SqliteConnection): Probe<ServerFacts> {
  return {
    commands: {
      machine,
      real: { stages: [{ argv: ['realpath', '-e', '-z', '--', settings.path] }] },
      stat: { stages: [{ argv: ['stat', '-L', '--printf=%a|%s|%F', '--', settings.path] }] },
      facts: readOnlyShell(settings.path, factsSql, { safe: true }),
    },
    read(outputs) {
      if (outputs.facts?.exits.includes(127)) sqliteVersion(outputs.facts)
      if (failed(outputs.real) || failed(outputs.stat)) {
        throw new HoldfastError(
          'database.missing',
          `Looking at the SQLite database ${settings.path}: there is no such file, or its directory may not be read.`,
        )
      }
      const [mode, bytes, kind] = (outputs.stat?.stdout ?? '').split('|')
      if (!kind?.startsWith('regular')) {
        throw new HoldfastError(
          'database.missing',
          `${settings.path} is a ${kind}, not a SQLite database file.`,
        )
      }
      const result = outputs.facts
      if (result === undefined || failed(result)) {
        const step = { title: `reading the SQLite database ${settings.path}` }
        throw (
          (result && explain(result, step)) ??
          new HoldfastError('tool.failed', `${step.title}: sqlite3 failed. ${result?.stderrTail ?? ''}`)
        )
      }
      const path = (outputs.real?.stdout ?? '').replace(/\0$/, '')
      const { version, ...said } = JSON.parse(result.stdout) as Record<string, Json> & { version: string }
      const facts = sqliteFacts.parse({ ...said, path, mode })
      return {
        identity: identityOf(outputs, path),
        version,
        database: path,
        sizeBytes: Math.max(Number(bytes), facts.pageSize * facts.pageCount),
        directory: dirname(path),
        facts,
        tools: [{ name: 'sqlite3', version }],
      }
    },
  }
}

/** The file may be gone: only its place and the tools are looked at. */
export function probeTarget(_connection: string, settings: SqliteConnection): Probe<ServerFacts> {
  return {
    commands: {
      machine,
      version: { stages: [{ argv: ['sqlite3', '-version'] }] },
      real: { stages: [{ argv: ['realpath', '-m', '-z', '--', settings.path] }] },
    },
    read(outputs) {
      const version = sqliteVersion(outputs.version)
      const path = (outputs.real?.stdout ?? '').replace(/\0$/, '') || settings.path
      return {
        identity: identityOf(outputs, path),
        version,
        database: path,
        sizeBytes: 0,
        facts: { path },
        tools: [{ name: 'sqlite3', version }],
      }
    },
  }
}

const failed = (result: CommandResult | undefined): boolean =>
  result === undefined || result.exits.some(exit => exit !== 0)

function sqliteVersion(result: CommandResult | undefined): string {
  if (result === undefined || failed(result)) {
    const step = { title: 'asking sqlite3 for its version' }
    throw (
      (result && explain(result, step)) ??
      new HoldfastError('host.tool-missing', 'The sqlite3 command line shell does not run on this host.')
    )
  }
  return result.stdout.trim().split(' ')[0] ?? ''
}

/** Machine and real path: two connections to one file share it. */
function identityOf(outputs: Record<string, CommandResult>, path: string): string {
  const id = outputs.machine?.stdout.trim().split('\n')[0] || 'unknown'
  const machine = createHash('sha256').update(`holdfast ${id}`).digest('hex').slice(0, 12)
  return `sqlite:${machine}:${encodePath(path)}`
}

/** Other bytes than letters, digits, `.`, `-`, `/` become `_hh`; long paths keep their end and gain a digest. */
function encodePath(path: string): string {
  const encoded = Array.from(Buffer.from(path), byte => {
    const char = String.fromCharCode(byte)
    return /[A-Za-z0-9./-]/.test(char) ? char : `_${byte.toString(16).padStart(2, '0')}`
  }).join('')
  if (encoded.length <= 300) return encoded
  return `${createHash('sha256').update(path).digest('hex').slice(0, 32)}:${encoded.slice(-200)}`
}
