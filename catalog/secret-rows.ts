/**
 * Rows of the `secrets` table. `owner` is `connection/<name>`, `destination/<name>`, `host/<name>`, `installation`,
 * `keys`, `retired-keys`, `opened-keys` or `probe/<host>/<id>`.
 */
import type { CatalogDatabase } from './dialect.ts'
import type { SecretBox } from './secrets.ts'

export async function putSecrets(
  db: CatalogDatabase,
  box: SecretBox,
  owner: string,
  values: Record<string, string>,
): Promise<void> {
  for (const [field, value] of Object.entries(values)) {
    await db
      .insertInto('secrets')
      .values({ owner, field, ...box.seal(owner, field, value) })
      .execute()
  }
}

/** `null` forgets a field; those that are not named stay. */
export async function changeSecrets(
  db: CatalogDatabase,
  box: SecretBox,
  owner: string,
  changes: Record<string, string | null>,
): Promise<void> {
  for (const [field, value] of Object.entries(changes)) {
    await db.deleteFrom('secrets').where('owner', '=', owner).where('field', '=', field).execute()
    if (value !== null) await putSecrets(db, box, owner, { [field]: value })
  }
}

export async function readSecrets(
  db: CatalogDatabase,
  box: SecretBox,
  owner: string,
): Promise<Record<string, string>> {
  const rows = await db.selectFrom('secrets').selectAll().where('owner', '=', owner).execute()
  return Object.fromEntries(rows.map(row => [row.field, box.unseal(owner, row.field, row)]))
}

export async function secretFieldsOf(db: CatalogDatabase, owner: string): Promise<string[]> {
  const rows = await db
    .selectFrom('secrets')
    .select('field')
    .where('owner', '=', owner)
    .orderBy('field')
    .execute()
  return rows.map(row => row.field)
}

export async function removeSecret(db: CatalogDatabase, owner: string, field: string): Promise<void> {
  await db.deleteFrom('secrets').where('owner', '=', owner).where('field', '=', field).execute()
}

export async function removeSecrets(db: CatalogDatabase, owner: string): Promise<void> {
  await db.deleteFrom('secrets').where('owner', '=', owner).execute()
}
