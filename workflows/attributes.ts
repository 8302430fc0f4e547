/** Typed search attributes, registered by the API at start. */
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common'

const keyword = (name: string) => defineSearchAttributeKey(name, SearchAttributeType.KEYWORD)

export const connectionAttribute = keyword('HoldfastConnection')
export const engineAttribute = keyword('HoldfastEngine')
export const operationAttribute = keyword('HoldfastOperation')
export const backupAttribute = keyword('HoldfastBackup')
export const stateAttribute = keyword('HoldfastState')
