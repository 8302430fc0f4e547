/** A database host as `holdfast wal` sees it: a data directory, a configuration, clients and an agent. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openArchive } from '../../cli/wal/archive.ts'
import { initWal } from '../../cli/wal/init.ts'
import type { WalConfig } from '../../model/wal-format.ts'
import { type Ended, holdfast, launcher, start } from '../cli/run.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { dataDirectory, systemIdentifier } from './segments.ts'

export interface WalHost {
  dataDir: string
  config: string
  /** Path of a file in pg_wal. */
  at(name: string): string
  push(name: string): Promise<Ended>
  /** As recovery asks: into pg_wal/RECOVERYXLOG. */
  fetch(name: string): Promise<Ended>
  startAgent(): Promise<ChildProcess>
}

export interface HostOptions {
  uri: string
  /** Of a store; its credentials are put into files that the configuration refers to. */
  store?: { server: Versitygw; endpoint: string }
  /** Over what `wal init` has written. */
  change?: Partial<WalConfig>
  server?: string
  /** false: the archive is not begun. */
  begin?: boolean
}

export async function walHost(path: string, options: HostOptions): Promise<WalHost> {
  const dataDir = join(path, 'data')
  const at = await dataDirectory(dataDir, options.server ?? systemIdentifier)
  const config = join(path, 'etc', 'wal.json')
  // As `wal init` and `wal begin` do, without a process for each.
  const made = { connection: 'shop', dataDirectory: dataDir, encryptTo: [], settings: {} }
  await initWal({ ...made, config, to: [options.uri] })
  const { store } = options
  const written = JSON.parse(await readFile(config, 'utf8')) as WalConfig
  if (store) {
    const secrets = join(path, 'secrets')
    await mkdir(secrets)
    for (const [field, value] of Object.entries(store.server.secrets))
      await writeFile(join(secrets, field), value)
    written.destinations = [
      {
        uri: options.uri,
        settings: { endpoint: store.endpoint, region: store.server.region, pathStyle: true },
        credentials: Object.fromEntries(
          Object.keys(store.server.secrets).map(field => [field, `file:${join(secrets, field)}`]),
        ),
      },
    ]
  }
  await writeFile(config, JSON.stringify({ ...written, patienceSeconds: 2, ...options.change }))
  if (options.begin !== false) {
    const archive = await openArchive(config)
    await archive.begin().finally(() => archive.close())
  }
  const client = (act: string, words: string[]) =>
    holdfast(['wal', act, '--config', config, ...words], { cwd: dataDir, program: launcher })
  return {
    dataDir,
    config,
    at,
    push: name => client('push', [`pg_wal/${name}`]),
    fetch: name => client('fetch', [name, 'pg_wal/RECOVERYXLOG']),
    async startAgent() {
      const { child, ended } = start(['wal', 'agent', '--config', config])
      const listening = new Promise<void>(resolve =>
        child.stdout?.on('data', (text: string) => text.includes('Listening') && resolve()),
      )
      await Promise.race([
        listening,
        ended.then(end => assert.fail(`the agent ended with ${end.code}: ${end.stderr}`)),
      ])
      return child
    },
  }
}

export async function killed(child: ChildProcess): Promise<void> {
  const gone = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}
