/** What a SQLite database says about itself: read by the probe, kept in the manifest, compared after a restore. */
import { z } from 'zod'
import { isForeignId } from '../../model/foreign.ts'
import type { Manifest } from '../../model/manifest.ts'

export const sqliteFacts = z.object({
  /** Real path (symbolic links resolved). */
  path: z.string(),
  pageSize: z.int(),
  pageCount: z.int(),
  freePages: z.int(),
  journalMode: z.string(),
  encoding: z.string(),
  autoVacuum: z.int(),
  userVersion: z.int(),
  applicationId: z.int(),
  tables: z.int(),
  indexes: z.int(),
  views: z.int(),
  triggers: z.int(),
  virtualTables: z.int(),
  /** SHA3-256 over types, names and SQL text of the schema. */
  schemaDigest: z.string(),
  /** Permission bits of the file, octal, e.g. "644". */
  mode: z.string(),
})

/** What the header of a file that was not made here says; a dump says none of it. */
const header = sqliteFacts.pick({ pageSize: true, journalMode: true, applicationId: true }).partial()

/** What a restore has to know of the database. */
export const restoreFactsOf = ({
  backupId,
  facts,
}: Manifest): z.infer<typeof header> & { applicationId: number } => {
  const known = isForeignId(backupId) ? header.parse(facts) : sqliteFacts.parse(facts)
  return { ...known, applicationId: known.applicationId ?? 0 }
}

const count = (where: string) => `(SELECT count(*) FROM sqlite_schema WHERE ${where})`

/** Schema rows in a fixed order; SQLite's own tables (statistics, sequences, automatic indexes) left out. */
const schemaRows =
  "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE substr(name, 1, 7) <> 'sqlite_' ORDER BY type, name"

/** One line of JSON: the facts that SQL can tell. */
export const factsSql = `SELECT json_object(
  'version', sqlite_version(),
  'pageSize', (SELECT page_size FROM pragma_page_size),
  'pageCount', (SELECT page_count FROM pragma_page_count),
  'freePages', (SELECT freelist_count FROM pragma_freelist_count),
  'journalMode', (SELECT journal_mode FROM pragma_journal_mode),
  'encoding', (SELECT encoding FROM pragma_encoding),
  'autoVacuum', (SELECT auto_vacuum FROM pragma_auto_vacuum),
  'userVersion', (SELECT user_version FROM pragma_user_version),
  'applicationId', (SELECT application_id FROM pragma_application_id),
  'tables', ${count("type = 'table' AND substr(name, 1, 7) <> 'sqlite_'")},
  'indexes', ${count("type = 'index' AND sql IS NOT NULL")},
  'views', ${count("type = 'view'")},
  'triggers', ${count("type = 'trigger'")},
  'virtualTables', ${count("type = 'table' AND sql LIKE 'CREATE VIRTUAL%'")},
  'schemaDigest', lower(hex(sha3_query('${schemaRows.replaceAll("'", "''")}', 256)))
);
`
