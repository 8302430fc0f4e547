/** The catalog itself: read again from the destinations, or moved to another place while nobody uses it. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { expectCatalog, moveCatalog, placeOf, type Stage, takeCatalogBack } from '../../catalog/move.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths } from '../../model/settings.ts'
import { rebuildView, type SyncView, syncView } from '../../model/views.ts'
import { type Context, contextOf, settingsOf } from '../context.ts'
import { clean, note, print, printJson } from '../terminal.ts'
import type { GlobalOptions } from '../whom.ts'

interface MoveOptions extends GlobalOptions {
  toFile?: string
  newSecretKeyFile?: string
  undo?: boolean
}

export function catalogCommands(program: Command): void {
  const catalog = program
    .command('catalog')
    .description('the list of what there is')
    .addHelpText('after', '\nExample:\n  holdfast catalog rebuild')

  catalog
    .command('rebuild')
    .argument('[destination]', 'only from this destination')
    .description('read the backups of the destinations into the catalog again')
    .addHelpText('after', '\nExample:\n  holdfast catalog rebuild vault')
    .action(async (destination: string | undefined, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const body = destination === undefined ? {} : { destination }
      const done = await context.client.post(rebuildView, '/v1/catalog/rebuild', body)
      if (context.json) printJson(done)
      else {
        print(`${done.found} backups found, ${done.added} of them were not in the catalog.`)
        for (const one of done.refused) {
          print(`  not taken: ${one.backup} in ${one.destination}, ${one.code}: ${clean(one.detail)}`)
        }
      }
      // What is there and cannot be trusted or read needs somebody to look.
      if (done.refused.length > 0) process.exitCode = 1
    })

  syncCommand(catalog)

  catalog
    .command('move')
    .argument('[url]', 'where to, without a password: sqlite:/path/file or postgres://USER@HOST/DATABASE')
    .description('move the catalog to another place, e.g. from SQLite to PostgreSQL; the API must be stopped')
    .option('--to-file <file>', 'a file that holds the URL, for one with a password')
    .option(
      '--new-secret-key-file <file>',
      'seal the stored secrets for this secret key instead of the present one',
    )
    .option('--undo', 'use a catalog again that was moved away; it is read-only until `holdfast takeover`')
    .addHelpText(
      'after',
      `
It works on the catalog of HOLDFAST_CATALOG_URL (without it: in the home), reaches no API, and may be repeated when it was cut off.

Examples:
  holdfast catalog move --to-file /root/catalog-url
  HOLDFAST_CATALOG_URL_FILE=/root/catalog-url holdfast catalog move sqlite:/var/lib/holdfast/catalog.sqlite`,
    )
    .action(async (url: string | undefined, _options: unknown, command: Command) => {
      const options: MoveOptions = command.optsWithGlobals()
      const settings = settingsOf(options.home)
      const json = options.json === true
      expectCatalog(settings.catalogUrl)
      const from = { url: settings.catalogUrl, secretKey: (await ensureSecretKey(settings)).key }
      if (options.undo === true) {
        if (url !== undefined || options.toFile !== undefined) {
          throw new HoldfastError(
            'request.invalid',
            '--undo takes the catalog of the settings, and no other place.',
          )
        }
        const back = await takeCatalogBack(from)
        if (json) return printJson(back)
        print(`The catalog ${back.at} may be used again, as another instance than the one at ${back.from}.`)
        note(
          'Its destinations are read-only until `holdfast takeover DESTINATION`. See to it that the other one is used no more.',
        )
        return
      }
      const to = { url: targetOf(url, options.toFile), secretKey: from.secretKey }
      if (options.newSecretKeyFile !== undefined) {
        const { newSecretKeyFile: secretKeyFile } = options
        to.secretKey = (
          await ensureSecretKey({ secretKey: textOf(secretKeyFile), secretKeyFile, catalogUrl: to.url })
        ).key
      }
      const say = (stage: Stage) => {
        if (stage === 'marked') note(`copying ${placeOf(from.url)} to ${placeOf(to.url)}`)
      }
      const moved = await moveCatalog(from, to, homePaths(settings.home).keys, say)
      if (json) return printJson(moved)
      const tables = Object.values(moved.rows).filter(count => count > 0)
      const rows = tables.reduce((sum, count) => sum + count, 0)
      print(
        tables.length === 0
          ? `The catalog is at ${moved.to}; an earlier try had copied it.`
          : `The catalog is at ${moved.to}: ${rows} rows of ${tables.length} tables, compared.`,
      )
      note(
        `Set HOLDFAST_CATALOG_URL (or its _FILE) to it${to.secretKey === from.secretKey ? '' : ', and the new secret key,'} for every API process, then start them.`,
      )
      note(
        `What is left at ${moved.from} starts no more; keep it until the first backups went well, then remove it.`,
      )
    })
}

function syncCommand(catalog: Command): void {
  catalog
    .command('sync')
    .argument('<source>', 'a directory of the machine of the API, a destination, or a URI in one')
    .description('catalogue dumps and archives that were not made by Holdfast, where they lie')
    .option('--destination <destination>', 'the destination that the URI has to lie in')
    .addHelpText(
      'after',
      `
Only their beginnings are read. Run again it adds what is new or another file than before, and marks what is gone. A restore needs that
a file was read to its end once: holdfast backups verify BACKUP --level deep.

Examples:
  holdfast catalog sync /srv/old-dumps
  holdfast catalog sync s3://vault/before-holdfast --json`,
    )
    .action(async (source: string, options: { destination?: string }, command: Command) => {
      const context = contextOf(command)
      const { destination } = options
      const body = {
        source: /^\.{0,2}\//.test(source) ? resolve(source) : source,
        ...(destination === undefined ? {} : { destination }),
      }
      const done = await syncToItsEnd(context, body)
      if (context.json) printJson(done)
      else {
        const news = [`${done.added} new`, `${done.back} back`, `${done.gone} gone`].join(', ')
        print(`${done.found} foreign backups at ${done.destination}: ${news}; ${done.skipped} other files.`)
        for (const one of done.refused)
          print(`  not taken: ${clean(one.file)}, ${one.code}: ${clean(one.detail)}`)
      }
      if (done.refused.length > 0) process.exitCode = 1
    })
}

/** A request reads for a while, and says whether there is more. */
async function syncToItsEnd(context: Context, body: object): Promise<SyncView> {
  const total = { added: 0, back: 0, gone: 0, skipped: 0 }
  const refused: SyncView['refused'] = []
  for (let after: string | null = null; ; ) {
    const now: SyncView = await context.client.post(syncView, '/v1/catalog/sync', {
      ...body,
      ...(after === null ? {} : { after }),
    })
    for (const count of ['added', 'back', 'gone', 'skipped'] as const) total[count] += now[count]
    refused.push(...now.refused)
    after = now.next
    if (after === null) return { ...now, ...total, refused }
  }
}

function targetOf(url: string | undefined, file: string | undefined): string {
  if ((url === undefined) === (file === undefined)) {
    throw new HoldfastError(
      'request.invalid',
      'Name the new place: a URL, or --to-file with a file that holds it.',
    )
  }
  if (file !== undefined) return textOf(file)
  if (/^\w+:\/\/[^/@]*:[^/@]+@/.test(url ?? '')) {
    throw new HoldfastError(
      'request.invalid',
      'A password in an argument can be read by everybody on this machine.',
      {
        hint: 'Put the URL into a file of mode 0600 and give it as --to-file, or use PGPASSFILE.',
      },
    )
  }
  return url ?? ''
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError('request.invalid', `${file} cannot be read: ${reason}.`)
  }
}
