/** The programs this machine needs, and the line that installs what is missing. */
import { execFile } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import type { Tool } from '../../engines/engine.ts'
import { engines } from '../../engines/index.ts'
import type { ConnectionView } from '../../model/views.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { findTemporal } from '../temporal-binary.ts'
import { type Finding, type Section, section } from './findings.ts'

type Environment = Record<string, string | undefined>

const managers = {
  apt: { ids: ['debian', 'ubuntu'], line: 'apt-get install -y' },
  dnf: { ids: ['fedora', 'rhel', 'centos', 'amzn'], line: 'dnf install -y' },
  apk: { ids: ['alpine'], line: 'apk add' },
  brew: { ids: ['darwin'], line: 'brew install' },
} as const
type Manager = keyof typeof managers

/** Which package manager this system has, by /etc/os-release; undefined: one we do not know. */
export function packageManager(platform: string, osRelease: string): Manager | undefined {
  const word = (name: string) => new RegExp(`^${name}=["']?([^"'\\n]*)`, 'm').exec(osRelease)?.[1] ?? ''
  const ids = platform === 'darwin' ? ['darwin'] : [word('ID'), ...word('ID_LIKE').split(' ')]
  return (Object.keys(managers) as Manager[]).find(name => managers[name].ids.some(id => ids.includes(id)))
}

export function installLine(manager: Manager | undefined, tool: Pick<Tool, 'program' | 'packages'>): string {
  const name = manager && tool.packages[manager]
  return name
    ? `${managers[manager].line} ${name}`
    : `Install ${tool.program} with the package manager of this system.`
}

const zstd = { apt: 'zstd', dnf: 'zstd', brew: 'zstd', apk: 'zstd' }

/** Of Holdfast itself, whatever the engine. */
const own: readonly (Tool & { optional: string })[] = [
  {
    program: 'zstd',
    versionArgs: ['--version'],
    purpose: 'unpacks backups',
    packages: zstd,
    optional: 'Node unpacks instead, slower.',
  },
  {
    program: 'pzstd',
    versionArgs: ['--version'],
    purpose: 'compresses on all cores',
    packages: zstd,
    optional: 'Node compresses instead, slower.',
  },
]

const run = promisify(execFile)

/** `connections`: undefined when no API answered. */
export async function toolFindings(
  env: Environment,
  connections: readonly ConnectionView[] | undefined,
): Promise<Finding[]> {
  const manager = packageManager(process.platform, textOf('/etc/os-release'))
  const rows = section('programs')
  nodeRow(rows, process.versions.node)
  for (const tool of own) {
    await rows.attempt(tool.program, async () => {
      const said = await versionOf(tool, env)
      if (said !== undefined) rows.pass(tool.program, said)
      else rows.warn(tool.program, `not installed. ${tool.optional}`, installLine(manager, tool))
    })
  }
  for (const engine of Object.values(engines)) {
    const used = connections?.filter(one => one.engine === engine.name) ?? []
    for (const tool of engine.tools) {
      const using = used.filter(one => tool.method === undefined || one.method === tool.method)
      await rows.attempt(tool.program, async () =>
        engineRow(rows, manager, engine.title, tool, await versionOf(tool, env), using),
      )
    }
  }
  temporalRow(rows, env)
  return rows.findings
}

/** `used`: connections of this engine; without one a missing tool is missed by nobody yet. */
function engineRow(
  rows: Section,
  manager: Manager | undefined,
  title: string,
  tool: Tool,
  said: string | undefined,
  used: readonly ConnectionView[],
): void {
  const purpose = `${title}: ${tool.purpose}`
  if (said === undefined) {
    const row = used.length > 0 ? rows.fail : rows.warn
    row(tool.program, `not installed (${purpose}).`, installLine(manager, tool))
    return
  }
  const beyond = used.filter(one => tool.reaches?.(said, one.serverVersion) === false)
  if (beyond.length === 0) {
    rows.pass(tool.program, `${said} (${purpose})`)
    return
  }
  const servers = beyond.map(one => `${one.name} (${one.serverVersion})`).join(', ')
  const hint = "Install client tools of the server's version or newer, and put them first on PATH."
  rows.fail(tool.program, `${said}: older than the server of ${servers}.`, hint)
}

function nodeRow(rows: Section, version: string): void {
  const needed = packageJson.engines.node.replace('>=', '')
  const number = (text: string) => text.split('.').map(Number)
  const [major = 0, minor = 0] = number(version)
  const [least = 0, leastMinor = 0] = number(needed)
  if (major > least || (major === least && minor >= leastMinor)) rows.pass('node', version)
  else
    rows.fail(
      'node',
      `${version} is older than ${needed}.`,
      '`npm ci` in the directory of Holdfast brings one.',
    )
}

function temporalRow(rows: Section, env: Environment): void {
  const path = findTemporal(env)
  if (path !== undefined) rows.pass('temporal', path)
  else if (env.HOLDFAST_TEMPORAL_ADDRESS)
    rows.pass('temporal', 'not here, and not needed: HOLDFAST_TEMPORAL_ADDRESS')
  else {
    rows.warn(
      'temporal',
      'not here yet; `holdfast up` downloads it, or builds it with Go.',
      'Without a way out to GitHub put the Temporal CLI on PATH: https://docs.temporal.io/cli/setup-cli',
    )
  }
}

/** The version it says; undefined when it is not there. Throws when it is there and does not run. */
async function versionOf(tool: Tool, env: Environment): Promise<string | undefined> {
  const path = find(tool.program, env)
  if (path === undefined) return undefined
  const { stdout, stderr } = await run(path, [...tool.versionArgs], { timeout: 5000, env }).catch(error => {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw new Error(`${path} is there, but does not run: ${why}`)
  })
  return /\d+(\.\d+)+/.exec(`${stdout} ${stderr}`)?.[0] ?? path
}

function find(program: string, env: Environment): string | undefined {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const path = join(folder || '.', program)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // The next folder may have it.
    }
  }
  return undefined
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** What this system calls itself. */
export function systemName(): string {
  const pretty = /^PRETTY_NAME="?([^"\n]*)/m.exec(textOf('/etc/os-release'))?.[1]
  return `${pretty ?? process.platform} ${process.arch}`
}
