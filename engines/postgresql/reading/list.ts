/** What PostgreSQL's own tool says of a table of contents. */
import { malformed, type ToolCheck } from '../../reading.ts'

/** `archive`: a file, or the directory that holds `toc.dat`. */
export const listCheck = (archive: string, entries: number): ToolCheck => ({
  title: 'pg_restore --list',
  command: { stages: [{ argv: ['pg_restore', '--list', '--', archive], env: { LC_ALL: 'C' } }, counting] },
  read({ exits, stdout, stderrTail }) {
    const [restore, count] = exits
    // Not here, or older than the dump: then it says nothing of this dump.
    if (restore === 127 || /unsupported version/.test(stderrTail)) return undefined
    if (restore !== 0 || count !== 0) {
      throw malformed(`pg_restore --list refuses it: ${stderrTail.trim().slice(-400)}`, {})
    }
    return `pg_restore lists ${stdout.trim()} of ${entries} entries`
  },
})

/** A long list is counted where it is made. Lines with `;` are comments. */
const counting = { argv: ['grep', '-c', '^[0-9]'] as const }
