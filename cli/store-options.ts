/** Where a store is, for commands that go to a destination without a server. */
import type { Command } from 'commander'

export interface StoreOptions {
  endpoint?: string
  region?: string
  pathStyle?: boolean
  account?: string
}

export const withStoreOptions = (command: Command): Command =>
  command
    .option('--endpoint <url>', 'address of the store, where it is not Amazon, Google or Azure')
    .option('--region <region>', 'its region')
    .option('--path-style', 'bucket in the path; the default with --endpoint')
    .option('--account <name>', "Azure's storage account; AZURE_STORAGE_ACCOUNT by default")

export const storeOptions = (options: StoreOptions): StoreOptions => ({
  ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
  ...(options.region === undefined ? {} : { region: options.region }),
  ...(options.pathStyle === undefined ? {} : { pathStyle: options.pathStyle }),
  ...(options.account === undefined ? {} : { account: options.account }),
})
