import type { Command } from 'commander'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { type LogStreamView, logStreamView, type StreamTrouble } from '../../model/log-stream.ts'
import { contextOf } from '../context.ts'
import { byteCount } from '../schedule-options.ts'
import { bytes, clean, duration, fields, note, print, printJson, table, time } from '../terminal.ts'

interface StartOptions {
  to?: string[]
  encryptTo?: string[]
  encrypt: boolean
  slot?: string
  spoolLimit?: number
  slotLimit?: number
}

const path = (connection: string) => `/v1/connections/${encodeURIComponent(connection)}/log-stream`

/** Of the group `wal`: the log received by a worker instead of handed over by archive_command. */
export function logStreamCommands(wal: Command): void {
  const group = wal
    .command('stream')
    .description('receive the log of a server through a replication slot, and archive it')

  group
    .command('start <connection>')
    .description('stream its log from now on, whatever happens; again: with other settings')
    .option('--to <destination...>', 'a file counts as archived once it is in all of them')
    .option('--encrypt-to <key...>', 'keys that open the archive; default: as for backups')
    .option('--no-encrypt', 'archive in the clear')
    .option('--slot <name>', 'replication slot; default: holdfast_CONNECTION')
    .option(
      '--spool-limit <size>',
      'what is received and not archived may take so much; default: 4.3GB',
      byteCount,
    )
    .option(
      '--slot-limit <size>',
      'an alarm when the slot makes the server keep more; default: 17.2GB',
      byteCount,
    )
    .addHelpText(
      'after',
      '\nIts role needs REPLICATION. What is not said stays as it was.\n\nExample:\n  holdfast wal stream start shop --to vault --spool-limit 20GB',
    )
    .action(async (connection: string, options: StartOptions, command: Command) => {
      const context = contextOf(command)
      if (options.encryptTo !== undefined && !options.encrypt) {
        throw new HoldfastError('request.invalid', 'Say one of --encrypt-to KEY and --no-encrypt.')
      }
      const { to, slot, spoolLimit, slotLimit } = options
      const encryptTo = options.encrypt ? options.encryptTo : []
      const made = await context.client.post(logStreamView, path(connection), {
        ...(to === undefined ? {} : { destinations: to }),
        ...(encryptTo === undefined ? {} : { encryptTo }),
        ...(slot === undefined ? {} : { slot }),
        ...(spoolLimit === undefined ? {} : { spoolLimitBytes: spoolLimit }),
        ...(slotLimit === undefined ? {} : { slotLimitBytes: slotLimit }),
      })
      if (context.json) printJson(made)
      else {
        print(
          `The log of ${connection} is streamed to ${made.destinations.join(', ')} through the slot ${made.slot}.`,
        )
        note(`Next: holdfast wal stream show ${connection}`)
      }
    })

  group
    .command('stop <connection>')
    .description('stop streaming; the slot is kept, and keeps the log of the server, until it is dropped')
    .option(
      '--drop-slot',
      'drop the slot once all that was received is archived: the next start leaves a hole',
    )
    .option('--forget', 'the server is gone: archive what was received, and leave the slot')
    .addHelpText('after', '\nExample:\n  holdfast wal stream stop shop --drop-slot')
    .action(
      async (connection: string, options: { dropSlot?: boolean; forget?: boolean }, command: Command) => {
        const context = contextOf(command)
        if (options.dropSlot && options.forget) {
          throw new HoldfastError('request.invalid', 'Say one of --drop-slot and --forget.')
        }
        const slot = options.dropSlot ? 'drop' : options.forget ? 'leave' : 'keep'
        const asked = await context.client.post(logStreamView, `${path(connection)}/stop`, { slot })
        if (context.json) printJson(asked)
        else {
          print(`The log of ${connection} is streamed no more, once the worker of its host has ended it.`)
          if (slot === 'keep') {
            note(
              `The slot ${asked.slot} keeps the log of the server until it is streamed again: mind its disk. To give it up: --drop-slot`,
            )
          }
        }
      },
    )

  group
    .command('show <connection>')
    .description('how far it is: received, archived, what the slot keeps, what is in its way')
    .addHelpText(
      'after',
      '\nExit codes: 0 all is well · 1 otherwise\n\nExample:\n  holdfast wal stream show shop',
    )
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const stream = await context.client.get(logStreamView, path(connection))
      const { state } = stream
      const well = stream.wanted === 'running' && state?.receiving === true && troubles(stream).length === 0
      process.exitCode = well ? 0 : 1
      if (context.json) printJson(stream)
      else show(stream)
    })

  group
    .command('list')
    .description('servers whose log is streamed')
    .addHelpText('after', '\nExample:\n  holdfast wal stream list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(
        z.object({ items: z.array(logStreamView) }),
        '/v1/log-streams',
      )
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No log is streamed: holdfast wal stream start CONNECTION')
      table(
        ['CONNECTION', 'TO', 'STATE', 'RECEIVED', 'ARCHIVED', 'BEHIND', 'SPOOL'],
        items.map(one => [
          one.connection,
          one.destinations.join(', '),
          stateWord(one),
          one.state?.receivedLsn ?? '',
          one.state?.archivedLsn ?? '',
          one.state?.lagBytes == null ? '' : bytes(one.state.lagBytes),
          one.state === null ? '' : bytes(one.state.spoolBytes),
        ]),
      )
    })
}

const troubles = ({ state }: LogStreamView): StreamTrouble[] =>
  [state?.receiveTrouble, state?.archiveTrouble].filter(one => one != null)

function stateWord(stream: LogStreamView): string {
  if (stream.wanted !== 'running') return stream.wanted
  if (stream.state === null) return 'starting'
  if (troubles(stream).length > 0) return 'in trouble'
  return stream.state.receiving ? 'receiving' : 'not receiving'
}

function show(stream: LogStreamView): void {
  const { state, slot, destinations, spoolLimitBytes, slotLimitBytes } = stream
  const lag =
    state?.lagBytes == null
      ? undefined
      : `${bytes(state.lagBytes)}${state.lagSeconds === null ? '' : `, for ${duration(state.lagSeconds * 1000)}`}`
  const kept =
    state?.slot == null
      ? 'not known'
      : `${state.slot.retainedBytes === null ? 'not known' : bytes(state.slot.retainedBytes)} of ${bytes(slotLimitBytes)}${state.slot.walStatus === null ? '' : ` (${state.slot.walStatus})`}`
  fields([
    ['state', stateWord(stream)],
    ['to', destinations.join(', ')],
    ['host', stream.host],
    ['server is at', state?.serverLsn ?? undefined],
    ['received', state?.receivedLsn ?? undefined],
    ['archived', state?.archivedLsn ?? undefined],
    ['last archived', state?.archivedAt ? time(state.archivedAt) : undefined],
    ['behind', lag],
    ['slot', slot],
    ['kept by the slot', kept],
    ['spool', state ? `${bytes(state.spoolBytes)} of ${bytes(spoolLimitBytes)}` : undefined],
    ['as of', state ? time(state.at) : undefined],
  ])
  for (const { code, detail, hint, since } of troubles(stream)) {
    note(`error ${code}: ${clean(detail)} Since ${time(since)}.`)
    note(`hint: ${hint}`)
  }
  if (state?.lost) {
    const after = state.lost.after === null ? '' : ` after ${state.lost.after}`
    note(
      `The server had removed log${after} before it was streamed, seen ${time(state.lost.at)}: holdfast pitr windows ${stream.connection}`,
    )
  }
}
