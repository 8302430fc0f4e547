/** The tool that administrators use for this today: a repository of its own on the same disk, zstd 3, a cipher, two processes. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { word } from './shell.ts'

export interface PgBackRest {
  /** Begins a command line. */
  command: string
  /** Where its archive-push and archive-get look after what they do ahead. */
  spool: string
  /** Not measured: an empty repository that knows the server. */
  clear(run: (script: string) => Promise<void>): Promise<void>
  storedBytes(): Promise<number>
}

export interface RepositoryOf {
  directory: string
  dataDir: string
  /** Of a server that is asked; absent: none runs there. */
  port?: number
  /** Which program; another version than the installed one. */
  program?: string
}

/** Everything below `directory`; the server's socket is in its data directory. */
export async function pgBackRest({ directory, dataDir, port, program }: RepositoryOf): Promise<PgBackRest> {
  const config = join(directory, 'pgbackrest.conf')
  const [repository, spool] = [join(directory, 'repository'), join(directory, 'spool')]
  for (const path of [repository, spool, join(directory, 'log'), join(directory, 'lock')]) {
    await mkdir(path, { recursive: true, mode: 0o777 })
  }
  await writeFile(
    config,
    `[global]
repo1-path=${repository}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=${randomBytes(24).toString('base64')}
repo1-retention-full=100
compress-type=zst
compress-level=3
process-max=2
start-fast=y
archive-async=y
archive-check=n
archive-mode-check=n
spool-path=${spool}
lock-path=${join(directory, 'lock')}
log-path=${join(directory, 'log')}
log-level-file=off
log-level-console=warn
[bench]
pg1-path=${dataDir}
${port === undefined ? '' : `pg1-socket-path=${dataDir}\npg1-port=${port}\npg1-user=postgres`}
`,
    { mode: 0o644 },
  )
  const command = `${word(program ?? 'pgbackrest')} --config=${word(config)} --stanza=bench`
  return {
    command,
    spool,
    async clear(run) {
      for (const path of [repository, spool]) {
        for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true })
      }
      await run(`${command} ${port === undefined ? '--no-online' : ''} stanza-create`)
    },
    storedBytes: () => bytesBelow(join(repository, 'backup')),
  }
}

async function bytesBelow(path: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  }
  return bytes
}
