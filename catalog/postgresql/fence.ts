/** Tables that take no more writes, whoever asks: also a process that had lost its way here and does not know yet that it is over. */
import { type Kysely, sql } from 'kysely'
import type { CatalogTables } from '../schema.ts'

/** Of the exception that a fenced table raises. */
export const fencedCode = 'HFMVD'

/** Waits for the transactions that are writing to them; from its commit on no other one does. */
export async function fence(tx: Kysely<CatalogTables>, tables: readonly string[]): Promise<void> {
  await lift(tx, tables)
  await sql`
    create or replace function holdfast_moved() returns trigger language plpgsql as
    ${sql.lit(`begin raise exception 'the catalog was moved' using errcode = '${fencedCode}'; end`)}
  `.execute(tx)
  for (const table of tables) {
    await sql`
      create trigger holdfast_moved before insert or update or delete on ${sql.table(table)}
      for each statement execute procedure holdfast_moved()
    `.execute(tx)
  }
}

export async function lift(tx: Kysely<CatalogTables>, tables: readonly string[]): Promise<void> {
  for (const table of tables) {
    await sql`drop trigger if exists holdfast_moved on ${sql.table(table)}`.execute(tx)
  }
}
