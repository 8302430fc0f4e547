/** Where the files of a log archive lie in a destination. */
import { HoldfastError } from '../../model/errors.ts'
import { logFileOf } from '../../model/wal.ts'

/** The log archive of one server: of all its timelines, whichever machine it runs on. */
export interface LogStream {
  connection: string
  systemIdentifier: string
}

export const streamPrefix = ({ connection, systemIdentifier }: LogStream): string =>
  `${connection}/logs/${systemIdentifier}/`

export const streamKey = (stream: LogStream): string => `${streamPrefix(stream)}stream.json`

/** Throws `wal.unreadable` for a name that PostgreSQL does not give. */
export function logFileKey(stream: LogStream, name: string): string {
  const file = logFileOf(name)
  if (file === undefined) {
    throw new HoldfastError('wal.unreadable', `"${name}" is no name of a PostgreSQL log file.`, {
      hint: 'archive_command passes %p to `holdfast wal push`, restore_command %f and %p to `holdfast wal fetch`.',
    })
  }
  const folder = file.kind === 'history' ? 'history' : `${name.slice(0, 8)}/${name.slice(8, 16)}`
  return `${streamPrefix(stream)}${folder}/${name}.wal`
}
