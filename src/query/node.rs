//! Our nodes as DataFusion `ExecutionPlan`s: the only file that implements that trait.
//!
//! A node says what it is called and how it runs; [`NodeExec`] holds its inputs, properties and
//! metrics and answers the rest of the trait's questions. DataFusion changes that trait with
//! every major version, and one file then follows.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use crate::query::batch::BATCH_CELLS;
use crate::query::error::QueryError;
use crate::query::pace::Pace;

/// Batches that one partition may be ahead of the one that is being read.
const BATCHES_AHEAD_MAX: usize = 16;
/// What one batch counts for: what is done with its cells, up to the next node that waits.
const BATCH_LOOKS: usize = BATCH_CELLS;

/// What a node yields.
pub type BatchStream = BoxStream<'static, DataFusionResult<RecordBatch>>;

/// One operator of a plan.
pub trait Node: fmt::Debug + Send + Sync + 'static {
    /// As EXPLAIN shows it.
    fn name(&self) -> &'static str;

    /// What EXPLAIN says after the name.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Whether the node reads every partition of its inputs itself, so that it has only one.
    /// Otherwise it has as many partitions as its first input.
    fn gathers(&self) -> bool;

    /// Whether the rows of the one input come out as they go in: their order and partitions stay.
    fn hands_on(&self) -> bool {
        false
    }

    /// Starts one partition. Nothing is done before the stream is polled.
    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream>;
}

/// What a running partition of a node has at hand.
pub struct Run {
    pub partition: usize,
    pub context: Arc<TaskContext>,
    pub schema: SchemaRef,
    pub inputs: Vec<Arc<dyn ExecutionPlan>>,
    pub metrics: ExecutionPlanMetricsSet,
    pub baseline: BaselineMetrics,
}

impl Run {
    /// The same partition of the first input.
    pub fn input(&self) -> DataFusionResult<SendableRecordBatchStream> {
        self.inputs[0].execute(self.partition, Arc::clone(&self.context))
    }

    /// All batches of input `number`, partition after partition.
    pub fn gather(&self, number: usize) -> DataFusionResult<SendableRecordBatchStream> {
        gather(&self.inputs[number], &self.context)
    }
}

/// A node with its inputs, as DataFusion sees it.
#[derive(Debug)]
pub struct NodeExec<N: Node> {
    node: Arc<N>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<N: Node> NodeExec<N> {
    /// A node above others.
    pub fn plan(
        node: N,
        schema: SchemaRef,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Arc<dyn ExecutionPlan> {
        let equivalences = EquivalenceProperties::new(schema);
        Arc::new(Self::with_properties(Arc::new(node), equivalences, inputs, 1))
    }

    /// A node without inputs.
    pub fn leaf(node: N, schema: SchemaRef, partitions: usize) -> Arc<dyn ExecutionPlan> {
        Self::ordered_leaf(node, schema, partitions, None)
    }

    /// A node without inputs whose partitions each come in this order.
    pub fn ordered_leaf(
        node: N,
        schema: SchemaRef,
        partitions: usize,
        ordering: Option<LexOrdering>,
    ) -> Arc<dyn ExecutionPlan> {
        let mut equivalences = EquivalenceProperties::new(schema);
        equivalences.add_orderings(ordering);
        Arc::new(Self::with_properties(Arc::new(node), equivalences, Vec::new(), partitions))
    }

    /// A node above others, in place of one that has these orders.
    pub(crate) fn with_equivalences(
        node: N,
        equivalences: EquivalenceProperties,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self::with_properties(Arc::new(node), equivalences, inputs, 1))
    }

    pub fn node(&self) -> &N {
        &self.node
    }

    /// `equivalences` and `partitions` are those of a node that does not take them from its input.
    fn with_properties(
        node: Arc<N>,
        equivalences: EquivalenceProperties,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        partitions: usize,
    ) -> Self {
        let input = inputs.first().map(|input| input.properties());
        let (equivalences, partitioning) = match input {
            Some(input) if node.hands_on() => {
                (input.eq_properties.clone(), input.partitioning.clone())
            }
            Some(input) if !node.gathers() => {
                let partitions = input.partitioning.partition_count();
                (equivalences, Partitioning::UnknownPartitioning(partitions))
            }
            _ => (equivalences, Partitioning::UnknownPartitioning(partitions)),
        };
        let properties = PlanProperties::new(
            equivalences,
            partitioning,
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { node, inputs, properties: Arc::new(properties), metrics: Default::default() }
    }
}

impl<N: Node> DisplayAs for NodeExec<N> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node.name())?;
        self.node.describe(f)?;
        match self.properties.partitioning.partition_count() {
            1 => Ok(()),
            partitions => write!(f, " partitions={partitions}"),
        }
    }
}

impl<N: Node> ExecutionPlan for NodeExec<N> {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        // Of those that do not hand on their input, some were told their order, and keep it.
        let equivalences = self.properties.eq_properties.clone();
        let partitions = self.properties.partitioning.partition_count();
        let node = Arc::clone(&self.node);
        Ok(Arc::new(Self::with_properties(node, equivalences, children, partitions)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        with_inputs(&(self as Arc<dyn ExecutionPlan>), children)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        // A gathering node reads its inputs' partitions in order, so it needs no node in between
        // that would mix them up.
        InputDistributionRequirements::new(vec![
            Distribution::UnspecifiedDistribution;
            self.inputs.len()
        ])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.node.hands_on(); self.inputs.len()]
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let output = baseline.clone();
        let stream = Arc::clone(&self.node).run(Run {
            partition,
            context,
            schema: Arc::clone(&schema),
            inputs: self.inputs.clone(),
            metrics: self.metrics.clone(),
            baseline,
        })?;
        let stream =
            futures::stream::unfold((stream, Pace::default()), |(mut stream, mut pace)| async {
                let batch = stream.next().await?;
                pace.look(BATCH_LOOKS).await;
                Some((batch, (stream, pace)))
            });
        let stream = stream.map(move |batch| batch.record_output(&output));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

/// Any plan over other inputs.
pub(crate) fn with_inputs(
    plan: &Arc<dyn ExecutionPlan>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(inputs, options)
}

/// All batches of a plan in order of its partitions, so that what is folded from them does not
/// depend on which partition was quick. The first partition runs on the calling task, the others
/// on tasks of their own, a bounded number of batches ahead.
pub fn gather(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> DataFusionResult<SendableRecordBatchStream> {
    let first = plan.execute(0, Arc::clone(context))?;
    let partitions = plan.properties().partitioning.partition_count();
    if partitions == 1 {
        return Ok(first);
    }
    let schema = plan.schema();
    let mut streams = vec![first];
    for partition in 1..partitions {
        let mut builder =
            RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_AHEAD_MAX);
        let sender = builder.tx();
        let mut input = plan.execute(partition, Arc::clone(context))?;
        builder.spawn(async move {
            while let Some(batch) = input.next().await {
                // Nobody listens any more: the query was dropped.
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        streams.push(builder.build());
    }
    let all = futures::stream::iter(streams).flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, all)))
}

/// A stream of all that `make` makes of each batch of the node's input, for nodes that may make
/// several of one.
pub fn make_of_each<N, F>(
    node: Arc<N>,
    run: Run,
    make: fn(Arc<N>, Arc<Run>, RecordBatch) -> F,
) -> DataFusionResult<BatchStream>
where
    N: Send + Sync + 'static,
    F: Future<Output = Result<Vec<RecordBatch>, QueryError>> + Send + 'static,
{
    let input = run.input()?;
    let run = Arc::new(run);
    let stream = input.then(move |batch| {
        let made = batch.map(|batch| make(Arc::clone(&node), Arc::clone(&run), batch));
        async move {
            let batches = made?.await?;
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok)))
        }
    });
    Ok(stream.try_flatten().boxed())
}

/// A stream that first awaits `make`, for nodes that must see all input before they yield.
pub fn yield_after<F>(make: F) -> BatchStream
where
    F: Future<Output = Result<Vec<RecordBatch>, QueryError>> + Send + 'static,
{
    futures::stream::once(make)
        .flat_map(|made| match made {
            Ok(batches) => futures::stream::iter(batches.into_iter().map(Ok)).boxed(),
            Err(error) => futures::stream::iter([Err(error.into())]).boxed(),
        })
        .boxed()
}
