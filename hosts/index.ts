/** The hosts there are. */
export { openLocalHost } from './local.ts'
