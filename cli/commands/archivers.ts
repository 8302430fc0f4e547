import type { Command } from 'commander'
import { type ArchiversView, archiversView } from '../../model/recovery-views.ts'
import { contextOf } from '../context.ts'
import { clean, note, printJson, table, time } from '../terminal.ts'

const path = (connection: string) => `/v1/connections/${encodeURIComponent(connection)}/archivers`

/** Of the group `pitr`: whose word counts in an archive. */
export function archiversCommands(group: Command): void {
  group
    .command('archivers <connection>')
    .description('who signs the files of its log archives, and whom this installation vouches for')
    .addHelpText('after', '\nExample:\n  holdfast pitr archivers shop')
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const found = await context.client.get(archiversView, path(connection))
      if (context.json) printJson(found)
      else show(found)
    })

  group
    .command('vouch <connection> <archiver>')
    .description('vouch for an archiver: whoever trusts this installation trusts what it archives')
    .requiredOption('--fingerprint <fingerprint>', 'of its key, as `holdfast wal init` said it on that host')
    .addHelpText(
      'after',
      '\nCompare the fingerprint with what the database host says, not with `pitr archivers`: that is what is asked for.\n\nExample:\n  holdfast pitr vouch shop 7Qm2vX9f3kW1ab --fingerprint "$(cat /mnt/safe/shop-archiver)"',
    )
    .action(
      async (connection: string, archiver: string, options: { fingerprint: string }, command: Command) => {
        const context = contextOf(command)
        const found = await context.client.post(archiversView, path(connection), {
          archiver,
          fingerprint: options.fingerprint,
        })
        if (context.json) printJson(found)
        else show(found)
      },
    )
}

function show({ items, unknown }: ArchiversView): void {
  if (items.length === 0) note('No archiver asks: `holdfast wal begin` on its host does.')
  else {
    table(
      ['DESTINATION', 'ARCHIVER', 'FINGERPRINT', 'ASKED', 'VOUCHED FOR'],
      items.map(one => [
        one.destination,
        one.archiver,
        one.fingerprint,
        time(one.askedAt),
        one.vouched ? 'yes' : 'no',
      ]),
    )
  }
  for (const { destination, code, detail } of unknown)
    note(`${destination} did not say: ${code}: ${clean(detail)}`)
}
