//! The documented columns of the standard tables.
//!
//! Names and types follow the table reference of Azure Monitor Logs (the pages
//! `azure-monitor/reference/tables/`). Each table has the columns of [`EVERY_TABLE`] as well, also
//! where the reference leaves `Computer` out: every record has one.

use super::ColumnType::{self, Bool, DateTime, Dynamic, Int, Long, Real, String as Text};
use super::{
    BILLED_SIZE, COMPUTER, Column, IS_BILLABLE, ITEM_ID, TENANT_ID, TIME_GENERATED, TIME_RECEIVED,
    TYPE,
};

/// What every table has. The first [`LEADING`] stand before a table's own columns, the rest after.
pub(super) const EVERY_TABLE: [(&str, ColumnType); 12] = [
    (TENANT_ID, Text),
    (TIME_GENERATED, DateTime),
    (COMPUTER, Text),
    (TYPE, Text),
    ("_ResourceId", Text),
    ("_SubscriptionId", Text),
    (ITEM_ID, Text),
    (TIME_RECEIVED, DateTime),
    (IS_BILLABLE, Text),
    (BILLED_SIZE, Real),
    ("SourceSystem", Text),
    ("MG", Text),
];

const LEADING: usize = 3;

/// The columns of a standard table; none for other names.
pub(super) fn columns(table: &str) -> Option<Vec<Column>> {
    let at = TABLES.binary_search_by(|(name, _)| (*name).cmp(table)).ok()?;
    let (_, own) = TABLES.get(at)?;
    let every =
        |&(name, column_type): &(&str, ColumnType)| Column { name: name.to_owned(), column_type };
    let mut columns: Vec<Column> = EVERY_TABLE.iter().take(LEADING).map(every).collect();
    for (column_type, names) in *own {
        columns.extend(
            names
                .split_ascii_whitespace()
                .map(|name| Column { name: name.to_owned(), column_type: *column_type }),
        );
    }
    for column in EVERY_TABLE.iter().skip(LEADING).map(every) {
        if !columns.iter().any(|own| own.name == column.name) {
            columns.push(column);
        }
    }
    Some(columns)
}

/// The names of the standard tables, sorted.
pub(super) fn names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}

/// A table's own columns by type, names separated by spaces.
type Own = &'static [(ColumnType, &'static str)];

/// Sorted by name.
const TABLES: &[(&str, Own)] = &[
    (
        "ASRJobs",
        &[
            (
                Text,
                "Category CorrelationId JobUniqueId OperationName PolicyFriendlyName PolicyId \
            PolicyUniqueId ReplicatedItemFriendlyName ReplicatedItemId \
            ReplicatedItemUniqueId ReplicationScenario ResultDescription SourceFriendlyName \
            SourceResourceGroup SourceResourceId SourceSystem SourceType Status \
            VaultLocation VaultName VaultType Version",
            ),
            (Int, "DurationMs"),
            (DateTime, "EndTime StartTime"),
        ],
    ),
    (
        "ASRReplicatedItems",
        &[
            (
                Text,
                "ActiveLocation Category DatasourceFriendlyName DatasourceType DatasourceUniqueId \
            FailoverReadiness MultiVMGroupId OperationName OSFamily PolicyFriendlyName \
            PolicyId PolicyUniqueId PrimaryFabricName PrimaryFabricType ProtectionInfo \
            RecoveryFabricName RecoveryFabricType RecoveryRegion ReplicatedItemFriendlyName \
            ReplicatedItemId ReplicatedItemUniqueId ReplicationHealthErrors \
            ReplicationStatus SourceResourceId SourceSystem VaultLocation VaultName \
            VaultType Version",
            ),
            (Int, "IRProgressPercentage"),
            (DateTime, "LastHeartbeat LastRpoCalculatedTime LastSuccessfulTestFailoverTime"),
        ],
    ),
    (
        "AddonAzureBackupAlerts",
        &[
            (
                Text,
                "AlertCode AlertConsolidationStatus AlertRaisedOn AlertSeverity AlertStatus \
            AlertType AlertUniqueId BackupItemUniqueId BackupManagementServerUniqueId \
            BackupManagementType Category OperationName ProtectedContainerUniqueId \
            RecommendedAction ResourceId SchemaVersion SourceSystem State StorageUniqueId \
            VaultUniqueId",
            ),
            (Int, "CountOfAlertsConsolidated"),
            (Real, "AlertTimeToResolveInMinutes"),
            (DateTime, "AlertOccurrenceDateTime"),
        ],
    ),
    (
        "AddonAzureBackupJobs",
        &[
            (
                Text,
                "AdHocOrScheduledJob ArchiveTierStorageReplicationType AzureDataCenter \
            BackupItemFriendlyName BackupItemId BackupItemUniqueId \
            BackupManagementServerUniqueId BackupManagementType Category \
            DatasourceFriendlyName DatasourceResourceId DatasourceSetFriendlyName \
            DatasourceSetResourceId DatasourceSetType DatasourceType JobFailureCode \
            JobOperation JobOperationSubType JobStatus JobUniqueId OperationName \
            ProtectedContainerUniqueId RecoveryJobDestination RecoveryJobRPLocation \
            RecoveryLocationType ResourceGroupName ResourceId SchemaVersion SourceSystem \
            State StorageReplicationType SubscriptionId VaultName VaultTags VaultType \
            VaultUniqueId",
            ),
            (Real, "DataTransferredInMB JobDurationInSecs"),
            (DateTime, "JobStartDateTime RecoveryJobRPDateTime"),
            (Dynamic, "ExtendedProperties"),
        ],
    ),
    (
        "AddonAzureBackupPolicy",
        &[
            (
                Text,
                "ArchiveTieringDurationType ArchiveTieringMode ArchiveTierStorageReplicationType \
            AzureDataCenter BackupDaysOfTheWeek BackupFrequency \
            BackupManagementServerUniqueId BackupManagementType BackupTimes Category \
            DailyRetentionTimes DatasourceType DiffBackupDaysofTheWeek DiffBackupFormat \
            DiffBackupTime DifferentialBackupDaysOfTheWeek DifferentialBackupFrequency \
            DifferentialBackupTimes FullBackupDaysOfTheWeek FullBackupFrequency \
            FullBackupTimes IncrementalBackupDaysOfTheWeek IncrementalBackupFrequency \
            IncrementalBackupTimes MonthlyRetentionDaysOfTheMonth \
            MonthlyRetentionDaysOfTheWeek MonthlyRetentionFormat MonthlyRetentionTimes \
            MonthlyRetentionWeeksOfTheMonth OperationName PolicyId PolicyName PolicySubType \
            PolicyTimeZone PolicyUniqueId ResourceGroupName ResourceId RetentionType \
            SchemaVersion SourceSystem State StorageReplicationType SubscriptionId \
            SynchronisationFrequencyPerDay VaultName VaultTags VaultType VaultUniqueId \
            WeeklyRetentionDaysOfTheWeek WeeklyRetentionTimes YearlyRetentionDaysOfTheMonth \
            YearlyRetentionDaysOfTheWeek YearlyRetentionFormat \
            YearlyRetentionMonthsOfTheYear YearlyRetentionTimes \
            YearlyRetentionWeeksOfTheMonth",
            ),
            (
                Int,
                "ArchiveTierDailyRetentionDuration ArchiveTierDefaultRetentionDuration \
            ArchiveTieringDuration ArchiveTierMonthlyRetentionDuration \
            ArchiveTierWeeklyRetentionDuration ArchiveTierYearlyRetentionDuration \
            BackupIntervalInHours DailyRetentionDuration DiffBackupRetentionDuration \
            LogBackupFrequency LogBackupRetentionDuration MonthlyRetentionDuration \
            RetentionDuration ScheduleWindowDuration SnapshotTierDailyRetentionDuration \
            SnapshotTierDefaultRetentionDuration SnapshotTierMonthlyRetentionDuration \
            SnapshotTierWeeklyRetentionDuration SnapshotTierYearlyRetentionDuration \
            StandardTierDefaultRetentionDuration WeeklyRetentionDuration \
            YearlyRetentionDuration",
            ),
            (DateTime, "ScheduleWindowStartTime"),
            (Dynamic, "ExtendedProperties"),
        ],
    ),
    (
        "AddonAzureBackupProtectedInstance",
        &[
            (
                Text,
                "ArchiveTierStorageReplicationType AzureDataCenter BackupItemUniqueId \
            BackupManagementServerUniqueId BackupManagementType BillingGroupFriendlyName \
            BillingGroupResourceGroupName BillingGroupType BillingGroupUniqueId Category \
            DatasourceType OperationName ProtectedContainerUniqueId ResourceGroupName \
            ResourceId SchemaVersion SourceSystem State StorageReplicationType \
            SubscriptionId VaultName VaultTags VaultType VaultUniqueId",
            ),
            (Int, "ProtectedInstanceCount"),
            (Real, "ArchiveTierStorageConsumedInMBs SourceSizeInMBs StorageConsumedInMBs"),
            (Dynamic, "ExtendedProperties"),
        ],
    ),
    (
        "AddonAzureBackupStorage",
        &[
            (
                Text,
                "ArchiveTierStorageConsumedInMBs BackupItemUniqueId \
            BackupManagementServerUniqueId BackupManagementType Category OperationName \
            PreferredWorkloadOnVolume ProtectedContainerUniqueId ResourceId SchemaVersion \
            SourceSystem State StorageName StorageType StorageUniqueId VaultUniqueId \
            VolumeFriendlyName",
            ),
            (Real, "StorageAllocatedInMBs StorageConsumedInMBs StorageTotalSizeInGBs"),
            (Dynamic, "ExtendedProperties"),
        ],
    ),
    (
        "Alert",
        &[
            (
                Text,
                "AlertContext AlertDescription AlertError AlertId AlertName AlertPriority \
            AlertRuleId AlertRuleInstanceId AlertSeverity AlertState AlertTypeDescription \
            Comments Custom1 Custom10 Custom2 Custom3 Custom4 Custom5 Custom6 Custom7 \
            Custom8 Custom9 Expression FlagsDescription HostName LastModifiedBy \
            LinkToSearchResults ManagementGroupName ObjectDisplayName Query RemediationJobId \
            RemediationRunbookName ResolvedBy ResourceId ResourceType ResourceValue \
            RootObjectName ServiceDeskConnectionName ServiceDeskId ServiceDeskWorkItemLink \
            ServiceDeskWorkItemType SourceDisplayName SourceFullName SourceSystem StateType \
            StatusDescription TemplateId ThresholdOperator TicketId TriggerId Url \
            ValueDescription ValueFlagsDescription",
            ),
            (
                Int,
                "AlertStatus AlertTypeNumber AlertValue Flags PriorityNumber RepeatCount \
            ThresholdValue ValueFlags",
            ),
            (
                DateTime,
                "QueryExecutionEndTime QueryExecutionStartTime TimeLastModified TimeRaised \
            TimeResolved",
            ),
        ],
    ),
    (
        "AzureActivity",
        &[
            (
                Text,
                "ActivityStatus ActivityStatusValue ActivitySubstatus ActivitySubstatusValue \
            Authorization Caller CallerIpAddress Category CategoryValue Claims CorrelationId \
            EventDataId Hierarchy HTTPRequest Level OperationId OperationName \
            OperationNameValue Properties Resource ResourceGroup ResourceId ResourceProvider \
            ResourceProviderValue SourceSystem SubscriptionId",
            ),
            (DateTime, "EventSubmissionTimestamp"),
            (Dynamic, "Authorization_d Claims_d Properties_d"),
        ],
    ),
    (
        "AzureDiagnostics",
        &[
            (
                Text,
                "ActivityId ActorClientId ActorCUID ActorDisplayName ActorUPN ActorUserId Area \
            AuthenticationMechanism Category CategoryDisplayName CorrelationId Details Id \
            IpAddress OperationName ProjectId ProjectName ScopeDisplayName ScopeId ScopeType \
            SourceSystem UserAgent",
            ),
            (Dynamic, "Data"),
        ],
    ),
    (
        "ConfigurationChange",
        &[
            (
                Text,
                "Acls Attributes ChangeCategory ConfigChangeType Current FieldsChanged \
            FileContentChecksum FileSystemPath Hive Location ManagementGroupName Name \
            Previous PreviousAcls PreviousAttributes PreviousFileContentChecksum \
            PreviousValueData PreviousValueType Publisher RegistryKey SoftwareDescription \
            SoftwareName SoftwareType SourceComputerId SourceSystem SvcAccount SvcChangeType \
            SvcController SvcDisplayName SvcName SvcPath SvcPreviousAccount \
            SvcPreviousController SvcPreviousPath SvcPreviousRunlevels \
            SvcPreviousStartupType SvcPreviousState SvcRunlevels SvcStartupType SvcState \
            ValueData ValueName ValueType VMUUID",
            ),
            (Long, "LastSnapshotAge PreviousSize Size"),
            (DateTime, "DateCreated DateModified PreviousDateCreated PreviousDateModified"),
        ],
    ),
    (
        "ConfigurationData",
        &[
            (
                Text,
                "Acls Architecture Attributes ConfigDataType CurrentVersion FileContentChecksum \
            FileSystemPath Hive Location ManagementGroupName Name Publisher RegistryKey \
            SoftwareDescription SoftwareName SoftwareType SourceComputerId SourceSystem \
            SvcAccount SvcController SvcDescription SvcDisplayName SvcName SvcPath \
            SvcRunlevels SvcStartupType SvcState ValueData ValueName ValueType VMUUID",
            ),
            (Long, "Size"),
            (DateTime, "DateCreated DateModified"),
        ],
    ),
    (
        "ContainerLogV2",
        &[
            (
                Text,
                "ContainerId ContainerName LogLevel LogSource PodName PodNamespace \
            SourceSystem",
            ),
            (Dynamic, "KubernetesMetadata LogMessage"),
        ],
    ),
    (
        "CoreAzureBackup",
        &[
            (
                Text,
                "AgentVersion ArchiveTierLatestRecoveryPointLocation \
            ArchiveTierOldestRecoveryPointLocation ArchiveTierStorageReplicationType \
            AzureBackupAgentVersion AzureDataCenter BackupItemAppVersion \
            BackupItemFriendlyName BackupItemId BackupItemName BackupItemProtectionState \
            BackupItemType BackupItemUniqueId BackupManagementServerName \
            BackupManagementServerOSVersion BackupManagementServerType \
            BackupManagementServerUniqueId BackupManagementServerVersion \
            BackupManagementType BillingGroupFriendlyName BillingGroupUniqueId Category \
            DatasourceFriendlyName DatasourceResourceGroupName DatasourceResourceId \
            DatasourceSetFriendlyName DatasourceSetResourceId DatasourceSetType \
            DatasourceSubscriptionId DatasourceType LatestRecoveryPointLocation \
            OldestRecoveryPointLocation OperationName PolicyId PolicyName PolicyUniqueId \
            ProtectedContainerFriendlyName ProtectedContainerLocation ProtectedContainerName \
            ProtectedContainerOSType ProtectedContainerOSVersion \
            ProtectedContainerProtectionState ProtectedContainerType \
            ProtectedContainerUniqueId ProtectedContainerWorkloadType ProtectionGroupName \
            ResourceGroupName ResourceId SchemaVersion SecondaryBackupProtectionState \
            SourceSystem State StorageReplicationType SubscriptionId VaultName VaultTags \
            VaultType VaultUniqueId",
            ),
            (Bool, "IsArchiveEnabled"),
            (Real, "ArchiveTierStorageConsumedInMBs BackupItemFrontEndSize StorageConsumedInMBs"),
            (
                DateTime,
                "ArchiveTierLatestRecoveryPointTime ArchiveTierOldestRecoveryPointTime \
            LatestRecoveryPointTime OldestRecoveryPointTime",
            ),
            (Dynamic, "ExtendedProperties"),
        ],
    ),
    (
        "Event",
        &[
            (
                Text,
                "AzureDeploymentID EventData EventLevelName EventLog ManagementGroupName Message \
            ParameterXml RenderedDescription Role Source SourceSystem UserName",
            ),
            (Int, "EventCategory EventID EventLevel"),
        ],
    ),
    (
        "Heartbeat",
        &[
            (
                Text,
                "Category ComputerEnvironment ComputerIP ManagementGroupName OSMajorVersion \
            OSMinorVersion OSName OSType RemoteIPCountry Resource ResourceGroup ResourceId \
            ResourceProvider ResourceType SCAgentChannel Solutions SourceSystem \
            SubscriptionId Version VMUUID",
            ),
            (Bool, "IsGatewayInstalled"),
            (Real, "RemoteIPLatitude RemoteIPLongitude"),
            (Dynamic, "ComputerPrivateIPs"),
        ],
    ),
    (
        "InsightsMetrics",
        &[(Text, "AgentId Name Namespace Origin SourceSystem Tags Value"), (Real, "Val")],
    ),
    (
        "LAQueryLogs",
        &[
            (
                Text,
                "AADClientId AADEmail AADObjectId AADTenantId CorrelationId QueryText \
            RequestClientApp RequestTarget SourceSystem WorkspaceRegion",
            ),
            (Bool, "IsBillableQuery IsWorkspaceInFailover"),
            (Int, "ResponseCode ResponseRowCount StatsRegionCount StatsWorkspaceCount"),
            (Real, "ResponseDurationMs ScannedGB StatsCPUTimeMs"),
            (
                DateTime,
                "QueryTimeRangeEnd QueryTimeRangeStart StatsDataProcessedEnd \
            StatsDataProcessedStart",
            ),
            (Dynamic, "RequestContext RequestContextFilters"),
        ],
    ),
    (
        "LASummaryLogs",
        &[
            (Text, "Message RuleName SourceSystem Status"),
            (Int, "BinSize"),
            (Long, "QueryDurationMs ResultsRecordCount"),
            (DateTime, "BinStartTime RuleLastModifiedTime"),
        ],
    ),
    (
        "Operation",
        &[(
            Text,
            "CorrelationId Detail ErrorId HelpLink ManagementGroupName OperationCategory \
            OperationKey OperationStatus Solution SourceComputerId SourceSystem",
        )],
    ),
    (
        "Perf",
        &[
            (Text, "CounterName CounterPath InstanceName ObjectName SourceSystem"),
            (Int, "SampleCount"),
            (Real, "CounterValue Max Min StandardDeviation"),
            (DateTime, "BucketEndTime BucketStartTime"),
        ],
    ),
    (
        "ProtectionStatus",
        &[
            (
                Text,
                "AMProductVersion ComputerEnvironment ComputerIP_Hidden DetectionId DeviceName \
            ManagementGroupName OSName ProtectionStatus ProtectionStatusDetails Resource \
            ResourceGroup ResourceId ResourceProvider ResourceType SignatureVersion \
            SourceComputerId SourceSystem SubscriptionId Threat ThreatStatus \
            ThreatStatusDetails TypeofProtection VMUUID",
            ),
            (Int, "ProtectionStatusRank ThreatStatusRank"),
            (DateTime, "ScanDate"),
        ],
    ),
    (
        "SecurityEvent",
        &[
            (
                Text,
                "AccessMask Account AccountDomain AccountExpires AccountName \
            AccountSessionIdentifier AccountType Activity AdditionalInfo AdditionalInfo2 \
            AllowedToDelegateTo Attributes AuditPolicyChanges AuthenticationPackageName \
            AuthenticationProvider AuthenticationServer AuthenticationType \
            AzureDeploymentID CACertificateHash CalledStationID CallerProcessId \
            CallerProcessName CallingStationID CAPublicKeyHash CategoryId \
            CertificateDatabaseHash Channel ClassId ClassName ClientAddress \
            ClientIPAddress ClientName CommandLine CompatibleIds Correlation DCDNSName \
            DeviceDescription DeviceId DisplayName Disposition DomainBehaviorVersion \
            DomainName DomainPolicyChanged DomainSid EAPType ElevatedToken EventData \
            EventLevelName EventRecordId EventSourceName ExtendedQuarantineState \
            FailureReason FileHash FilePath FilePathNoUser Filter ForceLogoff Fqbn \
            FullyQualifiedSubjectMachineName FullyQualifiedSubjectUserName \
            GroupMembership HandleId HardwareIds HomeDirectory HomePath InterfaceUuid \
            IpAddress IpPort Keywords Level LmPackageName LocationInformation \
            LockoutDuration LockoutObservationWindow LockoutThreshold LoggingResult \
            LogonGuid LogonHours LogonID LogonProcessName LogonTypeName \
            MachineAccountQuota MachineInventory MachineLogon ManagementGroupName \
            MandatoryLabel MaxPasswordAge MemberName MemberSid MinPasswordAge \
            MinPasswordLength MixedDomainMode NASIdentifier NASIPv4Address \
            NASIPv6Address NASPort NASPortType NetworkPolicyName NewDate NewMaxUsers \
            NewProcessId NewProcessName NewRemark NewShareFlags NewTime NewUacValue \
            NewValue NewValueType ObjectName ObjectServer ObjectType ObjectValueName \
            OemInformation OldMaxUsers OldRemark OldShareFlags OldUacValue OldValue \
            OldValueType Opcode OperationType PackageName ParentProcessName \
            PasswordHistoryLength PasswordLastSet PasswordProperties PreviousDate \
            PreviousTime PrimaryGroupId PrivateKeyUsageCount PrivilegeList Process \
            ProcessId ProcessName ProfilePath Properties ProtocolSequence \
            ProxyPolicyName QuarantineHelpURL QuarantineSessionID \
            QuarantineSessionIdentifier QuarantineState QuarantineSystemHealthResult \
            RelativeTargetName RemoteIpAddress RemotePort Requester RequestId \
            RestrictedAdminMode RowsDeleted SamAccountName ScriptPath SecurityDescriptor \
            ServiceAccount ServiceFileName ServiceName ServiceType SessionName \
            ShareLocalPath ShareName SidHistory SourceComputerId SourceSystem Status \
            StorageAccount SubcategoryGuid SubcategoryId Subject SubjectAccount \
            SubjectDomainName SubjectKeyIdentifier SubjectLogonId SubjectMachineName \
            SubjectMachineSID SubjectUserName SubjectUserSid SubStatus SystemUserId \
            TableId TargetAccount TargetDomainName TargetInfo TargetLinkedLogonId \
            TargetLogonGuid TargetLogonId TargetOutboundDomainName \
            TargetOutboundUserName TargetServerName TargetSid TargetUser TargetUserName \
            TargetUserSid TemplateContent TemplateDSObjectFQDN TemplateInternalName \
            TemplateOID TemplateSchemaVersion TemplateVersion TokenElevationType \
            TransmittedServices UserAccountControl UserParameters UserPrincipalName \
            UserWorkstations VendorIds VirtualAccount Workstation WorkstationName",
            ),
            (
                Int,
                "AuditsDiscarded AuthenticationLevel AuthenticationService ErrorCode EventID \
            KeyLength LogonType ServiceStartType SystemProcessId SystemThreadId Task \
            Version",
            ),
        ],
    ),
    (
        "Syslog",
        &[
            (
                Text,
                "CollectorHostName Facility HostIP HostName ProcessName SeverityLevel \
            SourceSystem SyslogMessage",
            ),
            (Int, "ProcessID"),
            (DateTime, "EventTime"),
        ],
    ),
    (
        "Update",
        &[
            (
                Text,
                "ApprovalSource BulletinID BulletinUrl Classification ComputerEnvironment \
            CVENumbers KBID ManagementGroupName MSRCBulletinID MSRCSeverity OSFullName \
            OSName OSType OSVersion PackageRepository PackageSeverity Product ProductArch \
            ProductVersion RebootBehavior Resource ResourceGroup ResourceId ResourceProvider \
            ResourceType RevisionNumber SourceComputerId SourceSystem SubscriptionId Title \
            UpdateID UpdateState VMUUID",
            ),
            (Bool, "Approved InstallTimeAvailable Optional"),
            (Real, "InstallTimeDeviationRangeSeconds InstallTimePredictionSeconds"),
            (DateTime, "PublishedDate"),
        ],
    ),
    (
        "UpdateSummary",
        &[
            (
                Text,
                "ComputerEnvironment ManagementGroupName NETRuntimeVersion \
            OldestMissingSecurityUpdateBucket OsVersion Resource ResourceGroup ResourceId \
            ResourceProvider ResourceType SourceComputerId SourceSystem SubscriptionId \
            VMUUID WindowsUpdateAgentVersion WindowsUpdateSetting WSUSServer",
            ),
            (Bool, "RestartPending"),
            (
                Int,
                "CriticalUpdatesMissing OldestMissingSecurityUpdateInDays OtherUpdatesMissing \
            SecurityUpdatesMissing TotalUpdatesMissing",
            ),
        ],
    ),
    (
        "Usage",
        &[
            (
                Text,
                "DataType LinkedMeterId LinkedResourceUri MeterId QuantityUnit ResourceUri \
            Solution SourceSystem",
            ),
            (Bool, "IsBillable"),
            (Long, "BatchesCapped BatchesOutsideSla BatchesWithinSla TotalBatches"),
            (Real, "AvgLatencyInSeconds Quantity"),
            (DateTime, "EndTime StartTime"),
        ],
    ),
    (
        "W3CIISLog",
        &[
            (
                Text,
                "AzureDeploymentID cIP Confidence csCookie csHost csMethod csReferer csUriQuery \
            csUriStem csUserAgent csUserName csVersion Description FirstReportedDateTime \
            IndicatorThreatType IsActive LastReportedDateTime MaliciousIP \
            ManagementGroupName RemoteIPCountry Role RoleInstance scStatus scSubStatus \
            scWin32Status sIP SourceSystem sSiteName StorageAccount TLPLevel",
            ),
            (Int, "Severity sPort"),
            (Long, "csBytes scBytes TimeTaken"),
            (Real, "RemoteIPLatitude RemoteIPLongitude"),
        ],
    ),
    (
        "WindowsEvent",
        &[
            (
                Text,
                "Channel Correlation EventLevelName EventOriginId EventRecordId Keywords \
            ManagementGroupName Opcode Provider RawEventData SystemUserId",
            ),
            (Int, "EventID EventLevel SystemProcessId SystemThreadId Task Version"),
            (Dynamic, "EventData"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_so_that_they_are_found() {
        assert!(names().is_sorted());
        for name in names() {
            assert!(columns(name).is_some(), "{name}");
        }
        assert!(columns("Nothing").is_none());
    }

    /// Column counts of the table reference, without the columns that are added here to tables that
    /// lack them there.
    #[test]
    fn counts_agree_with_the_reference() {
        let own = |table: &str| columns(table).map_or(0, |columns| columns.len());
        let (tenant, received, item, management_group) = (1, 1, 1, 1);
        for (table, count) in [("Heartbeat", 31), ("Perf", 19), ("Syslog", 17), ("Event", 22)] {
            let added = tenant + received + item + management_group;
            assert_eq!(own(table), count + added, "{table}");
        }
    }
}
