import type { Command } from 'commander'
import { type RecoveryWindowsView, recoveryWindowsView } from '../../model/recovery-views.ts'
import { contextOf } from '../context.ts'
import { bytes, note, print, printJson, time } from '../terminal.ts'

export function pitrCommands(program: Command): void {
  const group = program.command('pitr').description('recovery to a point in time: what can be reached')

  group
    .command('windows <connection>')
    .description('which places of the log can be recovered, from which base backup; and the holes')
    .addHelpText(
      'after',
      '\nExit codes: 0 there is something, without holes · 1 otherwise\n\nExample:\n  holdfast pitr windows shop',
    )
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/connections/${encodeURIComponent(connection)}/windows`
      const found = await context.client.get(recoveryWindowsView, path)
      const windows = found.archives.flatMap(archive => archive.windows)
      const whole =
        windows.some(one => one.intervals.length > 0) && windows.every(one => one.gaps.length === 0)
      process.exitCode = whole && found.unknown.length === 0 ? 0 : 1
      if (context.json) return printJson(found)
      show(found)
    })
}

function show({ connection, archives, unknown }: RecoveryWindowsView): void {
  for (const { destination, segments, storedBytes, newest, windows } of archives) {
    const last = newest === null ? '' : `, the last one ${newest.name} at ${time(newest.archivedAt)}`
    print(`${destination}: ${segments} segments, ${bytes(storedBytes)}${last}`)
    for (const { timeline, parent, intervals, bases, gaps } of windows) {
      const from = parent === null ? '' : `, branched off timeline ${parent.timeline} at ${parent.leftAt}`
      print(`  timeline ${timeline}${from}`)
      for (const { from: first, to } of intervals) print(`    can be recovered   ${first} to ${to}`)
      for (const base of bases)
        print(`    base backup        ${base.backup}, from ${base.from} to ${base.to}`)
      if (bases.length === 0) print('    no base backup: nothing of it can be recovered')
      for (const { first, last: end, lost } of gaps) {
        const what = first === end ? first : `${first} to ${end}`
        const until = lost.to === null ? 'on, until there is another base backup' : `to ${lost.to}`
        print(`    missing            ${what}: lost from ${lost.from} ${until}`)
      }
      if (gaps.length > 0)
        note(
          `    hint: on the database host, \`holdfast wal repair --pgdata DIR\`; else take a new base backup.`,
        )
    }
  }
  for (const { destination, code, detail, hint } of unknown) {
    note(`error ${code}: ${destination}: ${detail}`)
    note(`hint: ${hint}`)
  }
  if (archives.length === 0)
    note(`No destination has an archive of ${connection}'s log: docs/log-archiving.md.`)
}
