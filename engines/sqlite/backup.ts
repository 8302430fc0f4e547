/** Backups of SQLite: the online copy (physical) and `.dump` (logical). See docs/engines/sqlite.md for the why. */
import { basename } from 'node:path'
import type { CheckResult } from '../../model/types.ts'
import type { BackupPlan, ServerFacts } from '../engine.ts'
import { safeFileName } from '../names.ts'
import { sqliteFacts } from './facts.ts'
import { readOnlyShell } from './shell.ts'

/**
 * `.backup` inside an open read transaction of the same connection: one snapshot, and no restart while others write.
 * Without it the shell copies 100 pages at a time under a lock of their own and begins anew after every foreign commit.
 */
export function planCopy(facts: ServerFacts): BackupPlan {
  const file = 'database.sqlite'
  const { path } = sqliteFacts.parse(facts.facts)
  return {
    steps: [
      {
        id: 'copy',
        title: 'sqlite3, online copy',
        run: readOnlyShell(
          path,
          `BEGIN;\nSELECT count(*) FROM sqlite_schema;\n.backup ${file}\nROLLBACK;\n`,
          { safe: false },
        ),
        output: { to: 'none' },
        resume: 'attach',
        writesTo: 'staging',
      },
    ],
    artifacts: [
      {
        name: safeFileName(basename(path)),
        format: 'sqlite-file',
        from: { file },
        header: 'SQLite format 3',
      },
    ],
  }
}

/** First line of our dumps. The shell's own first line differs between versions. */
const dumpHeader = '-- Holdfast SQLite dump 1'

/** What `.dump` leaves out; it must come before the first table. One transaction with the dump: one snapshot. */
const dumpScript = `BEGIN;
SELECT '${dumpHeader}' FROM (SELECT count(*) FROM sqlite_schema);
SELECT 'PRAGMA page_size=' || page_size || ';' FROM pragma_page_size;
SELECT 'PRAGMA auto_vacuum=' || auto_vacuum || ';' FROM pragma_auto_vacuum;
SELECT 'PRAGMA encoding=''' || encoding || ''';' FROM pragma_encoding;
SELECT 'PRAGMA application_id=' || application_id || ';' FROM pragma_application_id;
SELECT 'PRAGMA user_version=' || user_version || ';' FROM pragma_user_version;
.dump --preserve-rowids
ROLLBACK;
`

export function planDump(facts: ServerFacts): BackupPlan {
  const { path } = sqliteFacts.parse(facts.facts)
  const name = `${safeFileName(basename(path))}.sql`
  return {
    steps: [
      {
        id: 'dump',
        title: 'sqlite3 .dump',
        run: readOnlyShell(path, dumpScript, { safe: true }),
        output: { to: 'artifact', artifact: name },
        resume: 'restart',
      },
    ],
    artifacts: [
      { name, format: 'sqlite-dump', from: { step: 'dump' }, header: dumpHeader, trailer: 'COMMIT;' },
    ],
  }
}

export function checks(facts: ServerFacts): CheckResult[] {
  const read = sqliteFacts.parse(facts.facts)
  return [
    {
      id: 'sqlite.writers',
      title: 'Writers during the backup',
      answer: 'pass',
      detail:
        read.journalMode === 'wal'
          ? 'Write-ahead log: writers go on while the backup reads its snapshot.'
          : `Journal mode ${read.journalMode}: writers wait while the backup reads.`,
    },
  ]
}
