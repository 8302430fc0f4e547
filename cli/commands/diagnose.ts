import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { errorTable } from '../../model/errors.ts'
import { bytes, clean, fields, printJson } from '../terminal.ts'
import { interruptible } from './recover.ts'

export function diagnoseCommand(program: Command): void {
  program
    .command('diagnose <file>')
    .description('what a dump or another file of backups is, and whether it is whole; asks no server')
    .option('--deep', 'read it to its end: names the byte, line, table and row that are damaged')
    .addHelpText(
      'after',
      '\nKnows dumps of PostgreSQL (custom, directory, tar, plain) and SQLite (files, .dump), also in gzip, zstd, lz4, bzip2 and xz, and\nwhat Holdfast writes. Nothing is changed. Ends with 0, with 1 when it is damaged, with 2 when it is of no format that is known.\n\nExamples:\n  holdfast diagnose /srv/old/shop.dump --deep\n  holdfast diagnose nightly.sql.gz --deep --json',
    )
    .action(async (file: string, options: { deep?: boolean }, command: Command) => {
      const { json }: { json?: boolean } = command.optsWithGlobals()
      const { diagnose } = await import('../diagnose/file.ts')
      const { openLocalHost } = await import('../../hosts/index.ts')
      const stagingRoot = await mkdtemp(join(tmpdir(), 'holdfast-diagnose-'))
      try {
        const host = await openLocalHost({ name: 'local', stagingRoot })
        const operation = 'diagnose'
        const signal = interruptible()
        const found = await diagnose(resolve(file), options.deep === true, { host, operation, signal }).catch(
          error => {
            signal.throwIfAborted()
            throw error
          },
        )
        if (json) printJson(found)
        else {
          fields([
            ['file', clean(found.path)],
            ['size', bytes(found.bytes)],
            ['what', clean(found.what)],
            ['state', found.state === 'not-read' ? 'not read' : found.state],
            ['', clean(found.detail)],
          ])
        }
        if (found.error !== null) process.exitCode = errorTable[found.error.code].exit
      } finally {
        await rm(stagingRoot, { recursive: true, force: true })
      }
    })
}
